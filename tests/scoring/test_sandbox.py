import fcntl
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from emobeam import storage
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring import ModelError, sandbox
from emobeam.scoring.result import Provenance, failed_result
from emobeam.scoring.sandbox import ProcessOptions, ScoringAbandonedError, ScoringProcess, ScoringProcessError
from tests.support import factory, hostile
from tests.support.paths import ROOT
from tests.support.stalls import StallClock

PROCESS = "The scoring process"


def archive(folder, names):
    sound = factory.voice(1.0)
    return [storage.stat(storage.canonical(factory.write_wav(folder / name, sound))) for name in names]


def batches(files):
    return [files[start : start + 16] for start in range(0, len(files), 16)]


def score_all(options, files):
    with ScoringProcess(options) as process:
        results = [result for batch in batches(files) for result in process.submit(batch)]
        results.extend(process.finish())
        return results, process.audio_duration_s


@pytest.fixture
def pids(tmp_path, monkeypatch):
    """A folder of the ids of processes that stall; the sandbox's clock jumps while one does."""
    folder = tmp_path / "pids"
    folder.mkdir()
    monkeypatch.setenv(hostile.PIDS, str(folder))
    monkeypatch.setattr(sandbox, "time", StallClock(folder))
    return folder


def names(results):
    return [storage.name_of(result.files[0]["uri"]) for result in results]


def test_results_come_in_order_and_progress_is_counted(tmp_path, tiny_path):
    files = archive(tmp_path, [f"{i:03d}.wav" for i in range(70)])
    results, audio_duration_s = score_all(ProcessOptions(model=str(tiny_path), settings=ScoreSettings()), files)
    assert names(results) == [f"{i:03d}.wav" for i in range(70)]
    assert {result.files[0]["status"] for result in results} == {"ok"}
    assert audio_duration_s == pytest.approx(70.0)


def credential_of(file, model, settings, **_):
    provenance = Provenance.of(file, model, settings)
    return failed_result(provenance, "open", os.environ["A_CREDENTIAL"], "", retryable=False)


def test_a_process_has_the_environment_of_now(tmp_path, tiny_path, monkeypatch):
    """And not that in which the server started: credentials come, and are renewed."""
    files = archive(tmp_path, ["0.wav"])
    options = ProcessOptions(model=str(tiny_path), settings=ScoreSettings(), score=credential_of)
    for now in ("first", "second"):
        monkeypatch.setenv("A_CREDENTIAL", now)
        results, _ = score_all(options, files)
        assert results[0].files[0]["error_code"] == now


def hostile_options(model, **changes):
    return ProcessOptions(**{"model": str(model), "settings": ScoreSettings(), "score": hostile.score, **changes})


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        (
            {},
            {
                "0_segfault.wav": ("a process that crashes (SIGSEGV)", "process_crashed", "process (SIGSEGV)"),
                "1_abort.wav": ("a process that aborts (SIGABRT)", "process_crashed", "process (SIGABRT)"),
                "2_exit.wav": ("a process that ends as if all were well", "process_crashed", "process (exit code 0)"),
                "3_killed.wav": (
                    "a process that the kernel kills (SIGKILL)",
                    "process_killed",
                    "run again, with fewer workers",
                ),
                "39_segfault.wav": ("the last recording of all crashes it", "process_crashed", "process (SIGSEGV)"),
            },
        ),
        (
            {},
            {
                "17_hang.wav": (
                    "a process that hangs, holding Python's lock",
                    "process_stalled",
                    "made no progress for 60 s",
                ),
                "18_stop.wav": ("a process that is stopped (SIGSTOP)", "process_stalled", "made no progress for 60 s"),
            },
        ),
        (
            {"max_growth_mb": 300},
            {"16_hog.wav": ("a process that takes a gigabyte", "process_out_of_memory", "where 300 are allowed")},
        ),
    ],
    ids=["ends", "stalls", "memory"],
)
@pytest.mark.usefixtures("pids")
def test_a_recording_that_kills_the_process_costs_only_itself(tmp_path, tiny_path, tried, options, faults):
    order = [f"{i}.wav" for i in range(40)]
    for name in faults:
        order[int(name.partition("_")[0])] = name
    results, _ = score_all(hostile_options(tiny_path, **options), archive(tmp_path, order))
    assert names(results) == order
    rows = {storage.name_of(result.files[0]["uri"]): result.files[0] for result in results}
    assert {name for name, row in rows.items() if row["status"] != "ok"} == set(faults)
    for name, (case, code, says) in faults.items():
        row = rows[name]
        assert (row["status"], row["error_stage"], row["error_code"]) == ("failed", "process", code)
        assert says in row["error_message"]
        assert row["retryable"] == (code == "process_killed")
        assert ("decode it to WAV, or leave it out" in row["error_message"]) == (code != "process_killed")
        assert row["model"] == "tiny"
        said = re.sub(r"took [\d,]+ MB", "took so many MB", row["error_message"])
        tried(PROCESS, case, f"`failed`, `process`, `{code}`; the others `ok`", said)


@pytest.mark.usefixtures("pids")
def test_what_a_replaced_process_scores_again_is_counted_once(tmp_path, tiny_path):
    files = archive(tmp_path, [f"{i}.wav" for i in range(5)] + ["5_segfault.wav"] + [f"{i}.wav" for i in range(6, 40)])
    seen = []
    with ScoringProcess(hostile_options(tiny_path)) as process:
        for batch in batches(files):
            seen += [(process.recordings, process.size_bytes) for _ in process.submit(batch)]
        seen += [(process.recordings, process.size_bytes) for _ in process.finish()]
    for at_least, counted in enumerate(seen, start=1):
        assert counted >= (at_least, at_least * files[0].size_bytes)
    assert seen[-1] == (40, 40 * files[0].size_bytes)


def test_what_others_left_behind_is_not_held_against_a_recording(tmp_path, tiny_path, tried):
    """Each takes less than is allowed and gives nothing back: together they are too much, and none is to blame."""
    order = ["0_leak.wav", "1_leak.wav", "2.wav"]
    results, _ = score_all(hostile_options(tiny_path, max_growth_mb=300), archive(tmp_path, order))
    assert names(results) == order
    assert {r.files[0]["status"] for r in results} == {"ok"}
    tried(
        PROCESS, "recordings that leak 200 MB each, where 300 are allowed", "all `ok`, in a fresh process where needed"
    )


def test_a_process_killed_from_outside_costs_nothing(tmp_path, tiny_path, tried):
    files = archive(tmp_path, [f"{i:03d}.wav" for i in range(60)])
    with ScoringProcess(ProcessOptions(model=str(tiny_path), settings=ScoreSettings())) as process:
        results = []
        for number, batch in enumerate(batches(files)):
            results.extend(process.submit(batch))
            if number:
                for running in multiprocessing.active_children():
                    os.kill(running.pid, signal.SIGKILL)
        results.extend(process.finish())
    assert [r.files[0]["status"] for r in results] == ["ok"] * 60
    tried(PROCESS, "a process killed from outside, three times", "all `ok`")


def test_a_process_stopped_from_outside_between_two_recordings_costs_nothing(tmp_path, tiny_path, pids, tried):
    files = archive(tmp_path, ["0.wav", "1.wav"])
    with ScoringProcess(hostile_options(tiny_path)) as process:
        results = [*process.submit(files[:1]), *process.finish()]
        for number, running in enumerate(multiprocessing.active_children()):
            os.kill(running.pid, signal.SIGSTOP)
            (pids / f"{number}.pid").write_text(str(running.pid))
        results += [*process.submit(files[1:]), *process.finish()]
    assert [r.files[0]["status"] for r in results] == ["ok", "ok"]
    tried(PROCESS, "a process stopped from outside while it has nothing to do", "all `ok`")


def parent(tmp_path, body, *arguments):
    """The command of a process of its own that owns scoring processes and runs `body`."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, os, signal, sys, time\n"
        "sys.path[:0] = ['.', 'tests']\n"
        "from emobeam import storage\n"
        "from tests.support import hostile\n"
        "from emobeam.schemas.settings import ScoreSettings\n"
        "from emobeam.scoring.sandbox import ProcessOptions, ScoringProcess\n"
        "if __name__ == '__main__':\n"
        "    options = ProcessOptions(model=sys.argv[1], settings=ScoreSettings(), score=hostile.score)\n"
        "    files = [storage.stat(uri) for uri in sys.argv[2:]]\n" + textwrap.indent(textwrap.dedent(body), "    ")
    )
    return [sys.executable, str(script), *map(str, arguments)]


def test_ctrl_c_is_the_parents_alone_from_the_first_moment(tmp_path, tiny_path, tried):
    files = archive(tmp_path, [f"{i}.wav" for i in range(16)])
    body = """
        with ScoringProcess(options) as process:
            results = list(process.submit(files))
            running, = multiprocessing.active_children()
            for _ in range(200):
                os.kill(running.pid, signal.SIGINT)  # from before it begins to import
                time.sleep(0.005)
            results += process.finish()
            assert multiprocessing.active_children() == [running]
        print(*{result.files[0]["status"] for result in results})
    """
    command = parent(tmp_path, body, tiny_path, *(file.uri for file in files))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("ok\n", "")
    tried(PROCESS, "Ctrl-C while the process starts, and later", "the parent decides; the process prints nothing")


@pytest.mark.usefixtures("pids")
def test_a_stall_over_a_bucket_may_be_the_networks(tmp_path, tiny_path, tried):
    uri = f"memory://test/{tmp_path.name}/hang.wav"
    with ScoringProcess(hostile_options(tiny_path)) as process:
        (result,) = [*process.submit([storage.ListedFile(uri, "recording")]), *process.finish()]
    (row,) = result.files
    assert row["retryable"]
    assert "score it again" in row["error_message"]
    tried(PROCESS, "a process that hangs over a recording in a bucket", row)


def test_results_are_waited_for_until_the_caller_has_to_end(tmp_path, tiny_path):
    asked = []

    def is_overdue():
        asked.append(len(asked))
        return len(asked) > 3

    hanging = archive(tmp_path, ["hang.wav"])
    with ScoringProcess(hostile_options(tiny_path, stall_s=3600.0), is_overdue=is_overdue) as process:
        results = process.submit(hanging), process.finish()
        assert list(results[0]) == []
        with pytest.raises(ScoringAbandonedError):
            list(results[1])
    assert len(asked) == 4


@pytest.mark.skipif(not hasattr(fcntl, "F_SETSIG"), reason="only Linux kills a process that hangs when its parent ends")
def test_nothing_survives_a_parent_that_is_killed(tmp_path, tiny_path, tried):
    names = ["hang.wav", "stop.wav", "waits.wav"]
    uris = [file.uri for file in archive(tmp_path, names)]
    body = """
        processes = [ScoringProcess(options) for _ in files]
        for process, file in zip(processes, files):
            list(process.submit([file]))
        time.sleep(600)
    """
    command, environment = parent(tmp_path, body, tiny_path, *uris), os.environ | {hostile.PIDS: str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as killed:
        while len(files := list(tmp_path.glob("*.pid"))) < len(names) and killed.poll() is None:
            time.sleep(0.01)
        processes = [psutil.Process(int(file.read_text())) for file in files]
        assert all(process.is_running() for process in processes)
        killed.kill()
        assert killed.stderr.read() == ""
    gone, alive = psutil.wait_procs(processes, timeout=60)
    assert (len(gone), alive) == (3, [])
    tried(PROCESS, "a parent that is killed (SIGKILL) over processes that hang, are stopped, wait", "none is left")


def test_closing_leaves_no_process(tmp_path, tiny_path):
    files = archive(tmp_path, ["a_hang.wav"])
    with ScoringProcess(ProcessOptions(model=str(tiny_path), settings=ScoreSettings(), score=hostile.score)) as process:
        list(process.submit(files))
    assert multiprocessing.active_children() == []


def test_a_bad_model_is_reported_before_any_work(tmp_path):
    with pytest.raises(ModelError, match="nothing"):
        ScoringProcess(ProcessOptions(model=str(tmp_path / "nothing.onnx"), settings=ScoreSettings()))


def test_a_process_that_cannot_start_is_reported(tmp_path, tiny_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(tiny_path.read_bytes())
    files = archive(tmp_path, ["a.wav"])
    with ScoringProcess(ProcessOptions(model=str(model), settings=ScoreSettings())) as process:
        model.unlink()
        list(process.submit(files))
        with pytest.raises(ScoringProcessError, match="ends as it starts: no model at"):
            list(process.finish())


def test_a_process_imports_neither_beam_nor_pyarrow():
    """They take seconds and a hundred megabytes, in each process."""
    program = "import emobeam.scoring.sandbox, sys; print({'apache_beam', 'pyarrow', 'av'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
