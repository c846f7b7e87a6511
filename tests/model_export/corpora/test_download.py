"""`emobeam fetch` against a real server on loopback."""

import argparse
import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import socket
from types import SimpleNamespace

import pytest

from emobeam.model_export.cli import run_fetch
from emobeam.model_export.corpora import download
from emobeam.model_export.corpora.download import fetch
from emobeam.model_export.corpora.sources import SOURCES, Source
from emobeam.model_export.errors import DownloadError
from emobeam.model_export.flags import add_fetch_arguments
from tests.support.downloads import FILES, NOISE, assert_refused, recordings, serve, tree, zip_of


def test_files_arrive(server, folder, capsys):
    archive = serve(server, zip_of([("Actor_01/", b""), *FILES.items()]))
    report = fetch(archive, folder)
    assert recordings(folder) == FILES
    assert (report.folder, report.files, report.size_bytes, report.downloaded) == (folder, 3, 44_000, True)
    assert [path.name for path in folder.parent.iterdir()] == ["corpus"]
    assert sorted(path.name for path in folder.iterdir()) == [".emobeam-fetch-corpus.json", "Actor_01", "Actor_02"]
    assert capsys.readouterr() == ("", "")


def test_a_second_call_downloads_nothing(server, folder):
    archive = serve(server, zip_of(FILES.items()))
    first = fetch(archive, folder)
    second = fetch(archive, folder)
    assert server.requests == 1
    assert not second.downloaded
    assert (second.folder, second.files, second.size_bytes) == (first.folder, first.files, first.size_bytes)


@pytest.mark.parametrize("damage", ["missing", "short", "receipt", "other version"])
def test_what_is_not_whole_is_fetched_again(server, folder, damage):
    archive = serve(server, zip_of(FILES.items()))
    fetch(archive, folder)
    receipt = folder / ".emobeam-fetch-corpus.json"
    if damage == "missing":
        (folder / "Actor_01/a.wav").unlink()
    elif damage == "short":
        (folder / "Actor_01/a.wav").write_bytes(b"")
    elif damage == "receipt":
        receipt.write_text("[]")
    else:
        receipt.write_text(json.dumps(json.loads(receipt.read_text()) | {"md5": "0" * 32}))
    (folder / "Actor_01/mine.txt").write_text("mine")
    assert fetch(archive, folder).downloaded
    assert recordings(folder) == FILES | {"Actor_01/mine.txt": b"mine"}


def test_an_archive_put_there_by_hand_is_used_and_kept(server, folder):
    archive = serve(server, zip_of(FILES.items()))
    folder.mkdir(parents=True)
    (folder / "corpus.zip").write_bytes(server.body)
    report = fetch(archive, folder)
    assert server.requests == 0
    assert not report.downloaded
    assert recordings(folder) == FILES | {"corpus.zip": server.body}


def test_an_archive_put_there_by_hand_is_left_alone_where_it_is_another(server, folder):
    archive = serve(server, zip_of(FILES.items()))
    other = server.body[:-1] + b"x"
    folder.mkdir(parents=True)
    (folder / "corpus.zip").write_bytes(other)
    assert fetch(archive, folder).downloaded
    assert recordings(folder) == FILES | {"corpus.zip": other}


def test_a_mirror_serves_as_well(server, folder):
    archive = serve(server, zip_of(FILES.items()))
    official = Source("corpus", "http://127.0.0.1:1/corpus.zip", archive.size_bytes, archive.md5, "CC0")
    assert fetch(official, folder, url=server.url).downloaded
    assert recordings(folder) == FILES


def test_progress_is_shown_when_asked_for(server, folder, capsys):
    archive = serve(server, zip_of(FILES.items()))
    fetch(archive, folder, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "corpus: 0.0 of 0.0 MB, 100 %" in err
    assert err.endswith("\ncorpus: unpacking\n")


def test_a_wrong_checksum_leaves_nothing(server, folder):
    archive = serve(server, zip_of(FILES.items()))
    server.body = server.body[:-1] + b"x"
    assert_refused(archive, folder, "wrong checksum")


def test_a_failure_leaves_what_was_there(server, folder):
    archive = serve(server, zip_of(FILES.items()))
    server.body = server.body[:-1] + b"x"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="wrong checksum"):
        fetch(archive, folder)
    assert tree(folder) == {"mine.txt": b"mine"}


def test_an_error_page_is_named(server, folder):
    archive = serve(server, zip_of(FILES.items()))
    gone = server.url + ".gone"
    assert_refused(archive, folder, f"answered 404 Not Found for {gone}; .*--url", url=gone)


def test_a_download_that_breaks_off_is_named(server, folder):
    archive = serve(server, zip_of(FILES.items()))
    server.length = len(server.body)
    server.body = server.body[:20_000]
    assert_refused(archive, folder, "broke off before its end")


@pytest.mark.parametrize("chunked", [False, True])
def test_more_than_the_archive_is_not_written(server, folder, chunked):
    archive = serve(server, zip_of(FILES.items()))
    server.body *= 2
    server.chunked = chunked
    assert_refused(archive, folder, f"more than the {archive.size_bytes} bytes")


def test_a_server_that_is_not_there_is_named(server, folder):
    archive = serve(server, zip_of(FILES.items()))
    with socket.socket() as idle:  # has its port, and does not listen
        idle.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{idle.getsockname()[1]}"
        expected = f"no connection to {address} .*put corpus.zip into the folder"
        assert_refused(archive, folder, expected, url=f"http://{address}/corpus.zip")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/corpus.zip", "corpus.zip", "https://", "http://["]
)
def test_only_web_addresses_are_taken(server, folder, url):
    assert_refused(serve(server, b""), folder, "no address to download from", url=url)


@pytest.mark.parametrize("where", ["link", "dangling link", "file", "folder"])
def test_what_is_in_the_way_is_named_and_left(server, folder, where):
    archive = serve(server, zip_of(FILES.items()))
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir(parents=True)
    folder.mkdir()
    if where == "link":
        (folder / "Actor_02").symlink_to(elsewhere)
    elif where == "dangling link":
        (folder / "Actor_02").symlink_to(elsewhere / "new")
    elif where == "file":
        (folder / "Actor_02").write_bytes(b"mine")
    else:
        (folder / "Actor_02/c.wav").mkdir(parents=True)
    before = tree(folder.parent)
    with pytest.raises(DownloadError, match=r"Actor_02.* is in the way"):
        fetch(archive, folder)
    assert tree(folder.parent) == before


def test_a_full_disk_is_named_before_the_download(server, folder, monkeypatch):
    archive = serve(server, zip_of(FILES.items()))
    free = 4 * archive.size_bytes - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert_refused(archive, folder, "needs 0.2 MB of free space and has 0.2 MB; make room")
    assert server.requests == 0


def test_a_full_disk_is_named_before_the_unpacking(server, folder, monkeypatch):
    archive = serve(server, zip_of([("a.wav", NOISE + bytes(300_000))]))
    frees = iter([10**9, 339_999])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(frees)))
    assert_refused(archive, folder, "needs 0.3 MB of free space")
    assert server.requests == 1


def test_a_file_in_place_of_the_folder_is_named(server, tmp_path):
    archive = serve(server, zip_of(FILES.items()))
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"cannot write to .*file: File exists"):
        fetch(archive, tmp_path / "file")
    assert tree(tmp_path) == {"file": b"mine"}


def test_a_second_fetch_at_the_same_time_is_refused(server, folder):
    archive = serve(server, zip_of(FILES.items()))
    folder.mkdir(parents=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another fetch"):
            fetch(archive, folder)
    finally:
        os.close(handle)
    assert server.requests == 0
    assert fetch(archive, folder).downloaded


def test_what_a_killed_fetch_left_is_cleared(server, folder):
    archive = serve(server, zip_of(FILES.items()))
    left = folder / ".emobeam-fetch-corpus.partial/unpacked/Actor_01"
    left.mkdir(parents=True)
    (left / "stale.wav").write_bytes(b"stale")
    fetch(archive, folder)
    assert recordings(folder) == FILES
    assert not left.parent.parent.exists()


def test_a_failure_in_mid_move_is_no_whole_corpus(server, folder, monkeypatch):
    archive = serve(server, zip_of(FILES.items()))
    replace = type(folder).replace

    def fail_at_the_second(source, target):
        if source.name == "c.wav":
            raise OSError(28, "No space left on device")
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(folder), "replace", fail_at_the_second)
        with pytest.raises(DownloadError, match="No space left on device; make room"):
            fetch(archive, folder)
    assert fetch(archive, folder).downloaded
    assert recordings(folder) == FILES


def command(*arguments):
    parser = argparse.ArgumentParser()
    add_fetch_arguments(parser)
    return run_fetch(parser.parse_args([str(argument) for argument in arguments]))


def test_the_command_prints_licence_place_and_next_step(server, folder, monkeypatch, capsys):
    archive = serve(server, zip_of(FILES.items()))
    ravdess = Source("ravdess", archive.url, archive.size_bytes, archive.md5, SOURCES["ravdess"].licence)
    monkeypatch.setitem(SOURCES, "ravdess", ravdess)
    assert command("ravdess", folder, "--url", server.url) == 0
    out, err = capsys.readouterr()
    licence, place, following = out.splitlines()
    assert licence.startswith("ravdess: CC BY-NC-SA 4.0: non-commercial")
    assert place == f"ravdess: 3 files, 0.0 MB in {folder}"
    assert following == f"next: emobeam train --corpus ravdess={folder} --out runs/first"
    assert err == ""

    assert command("ravdess", folder) == 0
    assert "nothing was downloaded, it was there already" in capsys.readouterr().out


def test_the_command_fails_in_one_line(folder, capsys):
    assert command("ravdess", folder, "--url", "nowhere") == 1
    assert capsys.readouterr().err == (
        "emobeam fetch: 'nowhere' is no address to download from; give one that starts with https:// or http://\n"
    )


def test_a_copy_to_convert_is_for_weights_alone(folder, capsys):
    assert command("ravdess", folder, "--from", "ravdess.zip") == 1
    assert capsys.readouterr().err == (
        "emobeam fetch: --from is of use with whisper-base alone; leave it out, or give --url\n"
    )
    assert not folder.exists()


TABLE = b"ActorID,Age,Sex\n"


@pytest.fixture
def listed(server, tmp_path, monkeypatch):
    """Serve `FILES` one by one, and a table from elsewhere; return the source."""
    monkeypatch.setattr(download, "RETRIES", 0)
    server.files = {f"/base/{name}": content for name, content in FILES.items()} | {"/other/t.csv": TABLE}
    rows = [(name, content, "") for name, content in FILES.items()]
    rows.append(("t.csv", TABLE, server.url.replace("corpus.zip", "other/t.csv")))
    lines = [f"{name} {hashlib.sha256(content).hexdigest()} {len(content)} {url}\n" for name, content, url in rows]
    registry = tmp_path / "registry.txt.gz"
    registry.write_bytes(gzip.compress("".join(lines).encode()))
    md5 = hashlib.md5(registry.read_bytes()).hexdigest()
    return Source("corpus", server.url.replace("corpus.zip", "base"), 44_000 + len(TABLE), md5, "ODbL", registry)


def test_files_published_one_by_one_arrive(server, folder, listed, capsys):
    report = fetch(listed, folder)
    assert recordings(folder) == FILES | {"t.csv": TABLE}
    assert (report.files, report.size_bytes, report.downloaded) == (4, 44_000 + len(TABLE), True)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".emobeam-fetch-corpus.json", "Actor_01", "Actor_02", "t.csv",
    ]  # fmt: skip
    assert capsys.readouterr() == ("", "")
    assert not fetch(listed, folder).downloaded
    assert server.requests == 4


def test_files_published_one_by_one_come_from_a_mirror(server, folder, listed):
    server.files = {f"/mirror/{name}": content for name, content in (FILES | {"t.csv": TABLE}).items()}
    fetch(listed, folder, url=server.url.replace("corpus.zip", "mirror/"), progress=True)
    assert recordings(folder) == FILES | {"t.csv": TABLE}


@pytest.mark.parametrize("damage", ["missing", "changed", "longer"])
def test_a_fetch_of_files_goes_on_where_it_failed(server, folder, listed, damage):
    whole = server.files
    bad = {"missing": None, "changed": b"x" * 4_000, "longer": whole["/base/Actor_02/c.wav"] * 20}[damage]
    server.files = {name: content for name, content in whole.items() if not name.endswith("c.wav")}
    if bad is not None:
        server.files["/base/Actor_02/c.wav"] = bad
    match = {"missing": "404 Not Found .*c.wav; run it again", "changed": "wrong checksum", "longer": "more than the"}
    with pytest.raises(DownloadError, match=match[damage]):
        fetch(listed, folder)
    assert [path.name for path in folder.iterdir()] == [".emobeam-fetch-corpus.partial"]
    kept = [path.name for path in folder.rglob("*.wav")]
    assert set(kept) <= {"a.wav", "b.wav"}
    server.files, before = whole, server.requests
    assert fetch(listed, folder).downloaded
    assert recordings(folder) == FILES | {"t.csv": TABLE}
    assert server.requests - before <= 4 - len(kept)
    assert not (folder / ".emobeam-fetch-corpus.partial").exists()


def test_a_file_of_the_corpus_that_is_there_is_not_downloaded_again(server, folder, listed):
    fetch(listed, folder)
    (folder / "Actor_01/a.wav").unlink()
    (folder / "Actor_01/b.wav").write_bytes(b"x" * 10_000)
    assert fetch(listed, folder).downloaded
    assert recordings(folder) == FILES | {"t.csv": TABLE}
    assert server.requests == 6
    (folder / ".emobeam-fetch-corpus.json").unlink()
    assert not fetch(listed, folder).downloaded


def test_a_fetch_of_files_that_gets_nothing_leaves_nothing(server, folder, listed):
    server.files = {}
    assert_refused(listed, folder, "404 Not Found", url=server.url.replace("corpus.zip", "gone"))


def test_ravdess_is_the_official_archive():
    ravdess = SOURCES["ravdess"]
    assert ravdess.url == "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip"
    assert (ravdess.size_bytes, ravdess.md5) == (208_468_073, "bc696df654c87fed845eb13823edef8a")


def test_crema_d_is_the_official_list_of_files():
    crema_d = SOURCES["crema_d"]
    packed = crema_d.registry.read_bytes()
    assert hashlib.md5(packed).hexdigest() == crema_d.md5
    lines = [line.split() for line in gzip.decompress(packed).decode().splitlines()]
    assert sum(int(size) for _, _, size, *_ in lines) == crema_d.size_bytes
    assert all(len(bytes.fromhex(sha256)) == 32 for _, sha256, *_ in lines)
    *clips, table = [name for name, *_ in lines]
    assert len(set(clips)) == 7442
    assert all(re.fullmatch(r"AudioWAV/1\d{3}_[A-Z]{3}_[A-Z]{3}_(XX?|LO|MD|HI)\.wav", name) for name in clips)
    assert table == "VideoDemographics.csv"
    assert lines[-1][3].endswith("/CREMA-D/master/VideoDemographics.csv")
