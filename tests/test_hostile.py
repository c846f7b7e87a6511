"""Every bad input has a row that says what is wrong and what to do, and none costs another."""

import contextlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pyarrow.dataset as ds
import pytest

from emobeam import storage
from emobeam.audio.decode import EXTENSIONS
from emobeam.schemas.settings import ScoreSettings
from emobeam.schemas.tables import STATUSES
from emobeam.scoring import load_model, score_recording
from emobeam.scoring.sandbox import ProcessOptions, ScoringProcess
from tests.support import factory, hostile, written
from tests.support.paths import ROOT
from tests.support.runs import run_score

BROKEN = "Broken, odd and hostile recordings"
NAMES = "Names, links and permissions"
MEANWHILE = "Files that change meanwhile"
OUTSIDE = "Files that name other files"

BAD = {bad.name: bad for bad in (*hostile.recordings(), *written.recordings())}

ODD_NAMES = {
    "a name with spaces": b"night shift  1.wav",
    "a name with quotes": b'it\'s "quoted".wav',
    "a name with a newline": b"two\nlines.wav",
    "a name that looks like a glob, [1]": b"take [1].wav",
    "a name with *": b"a*b.wav",
    "a name with # and ?": b"#3 why?.wav",
    "a name with % and what looks like an escape": b"100%25.wav",
    "a name with a backslash": b"c:\\calls.wav",
    "a name that begins with a dash": b"--output.wav",
    "a name that is not UTF-8": b"caf\xe9 \xff.wav",
    "a name with a space behind .wav": b"card.wav ",
    "a name of a CD, .WAV;1": b"TRACK01.WAV;1",
    "a name of 250 characters": b"x" * 246 + b".wav",
}


def files_of(archive, out, model):
    row = run_score("--input", archive, "--output", out, "--model", model)
    files = ds.dataset(out / "files", partitioning="hive").to_table().to_pylist()
    assert row["files_listed"] == row["files_processed"] == len(files)
    return {storage.path_of(file["uri"]): file for file in files}


def test_an_archive_of_nothing_but_bad_inputs_has_a_row_for_each(tmp_path, tiny_path, tried):
    """Through the whole pipeline, together: what is wrong with one changes nothing for another."""
    archive = tmp_path / "in"
    good = factory.write_wav(tmp_path / "good.wav", factory.voice(1.0))
    archive.mkdir()
    listed = [bad for bad in BAD.values() if os.path.splitext(bad.name)[1] in EXTENSIONS]
    for bad in listed:
        (archive / bad.name).write_bytes(bad.make())
    for name in ODD_NAMES.values():
        shutil.copyfile(good, os.path.join(os.fsencode(archive), name))
    os.mkfifo(archive / "pipe.wav")
    links = {
        "a link to nothing": ("dangling.wav", "nowhere", "not_found", "which is not there"),
        "a link to itself": ("loop.wav", "loop.wav", "not_found", "leads back to itself"),
        "a link to a device": ("zero.wav", "/dev/zero", "not_a_file", "is a device, not a recording"),
        "a link to memory that cannot be read": ("mem.wav", "/proc/self/mem", "unreadable", "check the disk"),
    }
    for name, target, *_ in links.values():
        (archive / name).symlink_to(target)
    (archive / "up").symlink_to("..")

    files = files_of(archive, tmp_path / "out", tiny_path)
    rows = {os.path.basename(path): file for path, file in files.items() if os.path.dirname(path) == str(archive)}
    assert set(rows) == {os.fsdecode(name) for name in os.listdir(os.fsencode(archive))} - {"up"}
    for bad in listed:
        assert (rows[bad.name]["status"], rows[bad.name]["error_code"]) == (bad.status, bad.code), bad.case
    for case, name in ODD_NAMES.items():
        row = rows[os.fsdecode(name)]
        assert row["status"] == "ok"
        assert row["uri"].isascii()
        tried(NAMES, case, row)
    for case, (name, _, code, says) in links.items():
        assert (rows[name]["status"], rows[name]["error_code"]) == ("failed", code)
        assert says in rows[name]["error_message"]
        tried(NAMES, case, rows[name])
    assert (rows["pipe.wav"]["status"], rows["pipe.wav"]["error_code"]) == ("failed", "not_a_file")
    tried(NAMES, "a FIFO, which no one writes to", rows["pipe.wav"])
    # The link up leads to what is scored already, by another name, and to the recording beside the archive.
    assert files[str(archive / "up" / "good.wav")]["status"] == "ok"
    tried(NAMES, "a link to the folder above", "followed once, not round and round")


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_recording_says_what_is_wrong(tmp_path, tiny, tried, bad):
    path = tmp_path / bad.name
    path.write_bytes(bad.make())
    (row,) = score_recording(path, tiny).files
    stage = None if bad.code is None else "decode"
    assert (row["status"], row["error_stage"], row["error_code"]) == (bad.status, stage, bad.code)
    assert row["status"] in STATUSES
    for part in bad.says:
        assert part in row["error_message"]
    assert (row["error_message"] is None) == (bad.code is None)
    assert (row["emotion"] is not None) == (bad.status in ("ok", "truncated"))
    assert row["retryable"] in (False, None)
    assert row["size_bytes"] == path.stat().st_size
    tried(BROKEN, bad.case, row)


def test_oddities_show_in_the_quality_columns(tmp_path, tiny):
    assert scored(tmp_path, "square.wav", tiny)["clipped_fraction"] == 1
    assert scored(tmp_path, "4khz.wav", tiny)["narrowband"]
    assert scored(tmp_path, "8.wav", tiny)["channels"] == 8
    assert scored(tmp_path, "art.mp3", tiny)["duration_s"] == pytest.approx(3.77, abs=0.01)


def scored(folder, name, model):
    path = folder / name
    path.write_bytes(BAD[name].make())
    (row,) = score_recording(path, model).files
    return row


def test_each_of_eight_channels_has_its_row(tmp_path, tiny):
    path = tmp_path / "8.wav"
    path.write_bytes(BAD["8.wav"].make())
    rows = score_recording(path, tiny, ScoreSettings(channels="split")).files
    assert [(row["channel"], row["status"]) for row in rows] == [(channel, "ok") for channel in range(8)]


def test_a_decompression_bomb_takes_no_memory(tmp_path, tiny_path, tried):
    """The process is killed beyond the limit: that it is not, here, is the measurement."""
    bomb = tmp_path / "bomb.flac"
    bomb.write_bytes(BAD["bomb.flac"].make())
    assert bomb.stat().st_size < 100_000
    with ScoringProcess(ProcessOptions(model=str(tiny_path), settings=ScoreSettings(), max_growth_mb=100)) as process:
        results = [*process.submit([storage.stat(storage.canonical(bomb))]), *process.finish()]
    (row,) = results[0].files
    assert (row["status"], row["duration_s"]) == ("silent", 3600)
    tried(BROKEN, "the same in a process that may grow by 100 MB", row)


def test_what_decoders_print_does_not_come_out(tmp_path, tiny_path, tried, capfd):
    """libsndfile prints to standard output of one, mpg123 to standard error of the other."""
    paths = [tmp_path / "packets.caf", tmp_path / "hole.mp3"]
    paths[0].write_bytes(BAD["packets.caf"].make())
    mp3 = (ROOT / "samples" / "de_female.mp3").read_bytes()
    paths[1].write_bytes(mp3[:9000] + bytes(3000) + mp3[12000:])
    for path, stream in zip(paths, ("out", "err"), strict=True):
        score_recording(path, load_model(tiny_path))
        assert getattr(capfd.readouterr(), stream) != "", "else this test is of nothing"
    with ScoringProcess(ProcessOptions(model=str(tiny_path), settings=ScoreSettings())) as process:
        results = list(process.submit([storage.stat(storage.canonical(path)) for path in paths]))
        results += process.finish()
    assert len(results) == 2
    assert capfd.readouterr() == ("", "")
    tried(BROKEN, "recordings at which decoders print", "nothing of it comes out")


def test_what_an_ordinary_user_may_not_read(tmp_path, tiny_path, tried):
    """Root, as whom CI may run, may read everything: a process of its own gives that up, its modules once imported."""
    archive = tmp_path / "in"
    factory.write_wav(archive / "ok.wav", factory.voice(1.0))
    factory.write_wav(archive / "shut" / "in.wav", factory.voice(1.0))
    factory.write_wav(archive / "no.wav", factory.voice(1.0)).chmod(0)
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    (archive / "shut").chmod(0)
    program = (
        "import json, os, sys\n"
        "from emobeam import storage\n"
        "from emobeam.scoring import load_model, score_recording\n"
        "model = load_model(sys.argv[2])\n"
        "score_recording(b'', model)\n"  # loads what is loaded at first use
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "for file in storage.list_input(sys.argv[1], {'.wav'}):\n"
        "    row, = score_recording(file, model).files\n"
        "    print(json.dumps(row, default=str))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(archive), str(tiny_path)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    (archive / "shut").chmod(0o755)
    assert done.returncode == 0, done.stderr
    rows = {storage.name_of(row["uri"]): row for row in map(json.loads, done.stdout.splitlines())}
    assert {name: (row["status"], row["error_code"]) for name, row in rows.items()} == {
        "ok.wav": ("ok", None),
        "no.wav": ("failed", "permission_denied"),
        "shut": ("failed", "permission_denied"),
    }
    for name, case in (
        ("no.wav", "a file that this user may not read"),
        ("shut", "a folder that this user may not read"),
    ):
        assert "may not be read by this user; change its permissions" in rows[name]["error_message"]
        assert rows[name]["retryable"]
        tried(NAMES, case, rows[name])


def listed(path):
    (file,) = storage.list_input(str(path), EXTENSIONS)
    return file


def test_a_file_that_vanishes_after_listing(tmp_path, tiny, tried):
    path = factory.write_wav(tmp_path / "a.wav", factory.voice(1.0))
    file = listed(path)
    path.unlink()
    (row,) = score_recording(file, tiny).files
    assert (row["status"], row["error_stage"], row["error_code"]) == ("failed", "open", "not_found")
    assert "is not there (any more)" in row["error_message"]
    assert row["retryable"]
    tried(MEANWHILE, "a file that vanishes between listing and reading", row)


def test_a_file_that_is_another_after_listing_is_scored_as_what_it_is(tmp_path, tiny, tried):
    """With its new size and time: a later run compares these and does not score it again."""
    path = factory.write_wav(tmp_path / "a.wav", factory.voice(1.0))
    file = listed(path)
    factory.write_wav(path, factory.voice(3.0))
    (row,) = score_recording(file, tiny).files
    now = listed(path)
    assert row["duration_s"] == 3.0
    assert (row["size_bytes"], row["modified_at"]) == (now.size_bytes, now.modified_at)
    assert now.size_bytes != file.size_bytes
    tried(
        MEANWHILE, "a file that is replaced between listing and reading", row, "with the size and time of what was read"
    )


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("a file that grows while it is read", lambda path: os.truncate(path, path.stat().st_size + 4000)),
        ("a file that is cut while it is read", lambda path: os.truncate(path, 1000)),
        ("a file that is written again while it is read", lambda path: os.utime(path)),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_not_scored(tmp_path, tiny, tried, case, change):
    path = factory.write_wav(tmp_path / "a.wav", factory.voice(20.0))
    file = listed(path)
    os.utime(path, (1, 1))
    (row,) = score_recording(file, tiny, on_progress=lambda _: change(path)).files
    assert (row["status"], row["error_stage"], row["error_code"]) == ("failed", "open", "changed")
    assert "score it again when it is complete" in row["error_message"]
    assert row["retryable"]
    assert row["emotion"] is None
    tried(MEANWHILE, case, row)


def test_a_disk_that_fails_in_mid_file_is_not_the_end_of_the_recording(tiny, tried, monkeypatch):
    """libsndfile and FFmpeg would both call it a shorter recording, and the row would not be retryable."""

    class Failing(io.FileIO):
        def readinto(self, buffer):
            if self.tell() >= 4096:
                raise OSError(5, "Input/output error")
            return super().readinto(buffer)

    monkeypatch.setattr(storage, "open_read", lambda uri: io.BufferedReader(Failing(storage.path_of(uri)), 4096))
    for name in ("en_female_studio.wav", "en_male.flac", "de_female.mp3", "de_male.opus", "en_female.m4a"):
        (row,) = score_recording(ROOT / "samples" / name, tiny).files
        assert (row["status"], row["error_stage"], row["error_code"]) == ("failed", "open", "unreadable"), name
        assert "Input/output error; check the disk" in row["error_message"]
        assert row["retryable"]
    tried(MEANWHILE, "a disk that fails in the middle of a file", row)


@contextlib.contextmanager
def listening():
    """An HTTP server on this machine, and what was asked of it."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a.wav", asked
        server.shutdown()


SCORE_NUMBERED = """
import sys
from emobeam.scoring import load_model, score_recording
model = load_model(sys.argv[2])
score_recording(b"", model)  # loads what is loaded at first use
for index in range(int(sys.argv[3])):
    row, = score_recording(f"{sys.argv[1]}/{index}.wav", model).files
    print(row["status"], row["error_stage"], row["error_code"], row["error_message"], sep=chr(9))
"""


def test_nothing_is_opened_that_a_recording_names(tmp_path, tiny_path, tried):
    """By what the kernel says under strace, where it is here, and by a server that is asked for nothing."""
    secret = factory.write_wav(tmp_path / "secret" / "secret.wav", factory.voice(2.0))
    with listening() as (url, asked):
        cases = {
            "an HLS playlist of /etc/passwd": ("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n", "file:///etc/passwd"),
            "an HLS playlist of a file": ("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n", secret),
            "an HLS playlist of a URL": ("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n", url),
            "FFmpeg's concat script of /etc/passwd": ("ffconcat version 1.0\nfile {}\n", "/etc/passwd"),
            "FFmpeg's concat script of a URL": ("ffconcat version 1.0\nfile {}\n", url),
            "a DASH manifest of a URL": (
                '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet '
                'mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation>'
                "</AdaptationSet></Period></MPD>",
                url,
            ),
            "an SDP description of a stream": ("v=0\nc=IN IP4 {}\nm=audio 9 RTP/AVP 0\n", "127.0.0.1"),
        }  # fmt: skip
        archive = tmp_path / "in"
        archive.mkdir()
        for index, (text, names) in enumerate(cases.values()):
            (archive / f"{index}.wav").write_text(text.format(names))
        log = tmp_path / "strace.log"
        strace = shutil.which("strace")
        watched = (
            [strace, "-f", "-qq", "-e", "trace=open,openat,socket,connect,execve", "-o", str(log)] if strace else []
        )
        done = subprocess.run(
            [*watched, sys.executable, "-c", SCORE_NUMBERED, str(archive), str(tiny_path), str(len(cases))],
            capture_output=True, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert asked == []
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    for case, row in zip(cases, rows, strict=True):
        assert row[:3] == ["failed", "decode", "unknown_format"]
        tried(OUTSIDE, case, dict(zip(("status", "error_stage", "error_code", "error_message"), row, strict=True)))
    if strace:
        calls = log.read_text(errors="replace")
        assert f"{archive}/0.wav" in calls, "strace saw what was opened"
        scoring = calls[calls.index(f"{archive}/0.wav") :]
        assert "/etc/passwd" not in scoring
        assert "secret" not in scoring
        assert "AF_INET" not in scoring
        assert scoring.count("execve(") == 0


def test_answers_do_not_depend_on_the_samples_width(tmp_path, tiny):
    answers = [
        scored(tmp_path, f"{coding}.wav", tiny)["confidence"] for coding in ("PCM_24", "FLOAT", "DOUBLE", "PCM_U8")
    ]
    assert np.allclose(answers[:3], answers[0], atol=1e-4)
    assert answers[3] == pytest.approx(answers[0], abs=0.05)
