"""Members of an archive that are refused: none of the others is unpacked."""

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from emobeam.model_export.corpora import zip_members
from tests.support.downloads import FILES, NOISE, assert_refused, serve, zip_of


def unix_member(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("/tmp/emobeam-evil.wav", "absolute path"),
        ("//server/evil.wav", "absolute path"),
        ("C:/evil.wav", "absolute path"),
        ("c:evil.wav", "absolute path"),
        ("../evil.wav", "leads out"),
        ("Actor_01/../../evil.wav", "leads out"),
        ("Actor_01/..", "leads out"),
        ("..", "leads out"),
        ("../", "leads out"),
        ("..\\evil.wav", "backslash"),
        ("Actor_01\\evil.wav", "backslash"),
        ("\\evil.wav", "backslash"),
        ("./evil.wav", "name that is none"),
        ("Actor_01//evil.wav", "name that is none"),
        ("Actor_01/evil\n.wav", "name that is none"),
        (".emobeam-fetch-corpus.json", "kept for the fetch"),
        (".Emobeam-Fetch-corpus.partial/evil.wav", "kept for the fetch"),
        ("Actor_01/a.wav/evil.wav", "name of another"),
        ("actor_01/A.wav", "name of another"),
        (unix_member("Actor_01/link.wav", stat.S_IFLNK | 0o777), "symbolic link"),
        (unix_member("Actor_01/link/", stat.S_IFLNK | 0o777), "symbolic link"),
        (unix_member("Actor_01/pipe.wav", stat.S_IFIFO | 0o644), "neither a file nor a folder"),
    ],
    ids=lambda value: value.filename if isinstance(value, zipfile.ZipInfo) else repr(value),
)
@pytest.mark.parametrize("first", [True, False])
def test_a_member_that_leads_astray_is_refused_with_all_others(server, folder, name, match, first):
    bad = [(name, b"../../target")]
    members = [*bad, *FILES.items()] if first else [*FILES.items(), *bad]
    assert_refused(serve(server, zip_of(members)), folder, match)
    assert not Path("/tmp/emobeam-evil.wav").exists()


def test_a_name_with_a_hidden_end_is_refused(server, folder):
    body = zip_of([*FILES.items(), ("Actor_01/evil.wav_.txt", b"x")]).replace(b"evil.wav_", b"evil.wav\0")
    assert_refused(serve(server, body), folder, "name that is none")


def test_a_second_member_of_the_same_name_is_refused(server, folder):
    body = zip_of([*FILES.items(), ("Actor_01/x.wav", b"x")]).replace(b"Actor_01/x.wav", b"Actor_01/a.wav")
    assert_refused(serve(server, body), folder, "name of another")


def test_a_zip_bomb_is_refused(server, folder):
    assert_refused(serve(server, zip_of([("Actor_01/a.wav", bytes(3_000_000))])), folder, "over 20 times its size")


def test_an_archive_of_countless_members_is_refused(server, folder, monkeypatch):
    monkeypatch.setattr(zip_members, "MAX_MEMBERS", 2)
    assert_refused(serve(server, zip_of(FILES.items())), folder, "3 members, more than the 2")


def test_encrypted_members_are_refused(server, folder):
    body = bytearray(zip_of([("a.wav", NOISE)]))
    entry = body.index(b"PK\1\2")
    struct.pack_into("<H", body, entry + 8, 1)
    assert_refused(serve(server, bytes(body)), folder, "its member .a.wav. is encrypted")


def test_unusual_compression_is_refused(server, folder):
    assert_refused(serve(server, zip_of([("a.wav", NOISE)], zipfile.ZIP_BZIP2)), folder, "unusual way")


@pytest.mark.parametrize("members", [[], [("Actor_01/", b"")]])
def test_an_archive_without_files_is_refused(server, folder, members):
    assert_refused(serve(server, zip_of(members)), folder, "holds no files")


def test_what_is_no_zip_file_is_named(server, folder):
    assert_refused(serve(server, NOISE), folder, "no sound zip file")


def test_a_damaged_member_is_named(server, folder):
    body = bytearray(zip_of([*FILES.items()], zipfile.ZIP_STORED))
    body[body.index(NOISE[5_000:5_100], 40_000)] ^= 1
    assert_refused(serve(server, bytes(body)), folder, "no sound zip file .*CRC")


def test_a_member_shorter_than_it_says_is_named(server, folder):
    body = bytearray(zip_of([("a.wav", NOISE)]))
    struct.pack_into("<I", body, body.index(b"PK\1\2") + 24, len(NOISE) + 1)
    assert_refused(serve(server, bytes(body)), folder, "shorter than it says")
