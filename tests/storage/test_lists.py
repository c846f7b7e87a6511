"""Lists of recordings, as people and other programs write them."""

import pytest

from emobeam import storage
from emobeam.storage import StorageError
from emobeam.storage.lists import parse_list

NAMES = ["a.wav", "Gespräch 1.wav", "b#2.wav", 'say "hi".wav']


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_a_list_is_read_in_every_encoding_and_with_every_end_of_line(tried, encoding, newline, end):
    text = "\n".join(["# the calls of Monday", "", *NAMES]) + end
    names = parse_list(text.replace("\n", newline).encode(encoding), "file:///list.txt")
    assert [name.decode() for name in names] == NAMES
    tried("The command", "a list in UTF-8 or UTF-16, with or without a mark of it", "read")


def test_a_name_in_quotes_is_the_name_between_them():
    assert parse_list(b'"a b.wav"\n "c.wav" \n"', "file:///list.txt") == [b"a b.wav", b"c.wav", b'"']


def test_bytes_that_are_no_text_stay_as_they_are():
    assert parse_list(b"caf\xe9.wav\n", "file:///list.txt") == [b"caf\xe9.wav"]


@pytest.mark.parametrize("data", [b"RIFF\x00\x00", "a.wav".encode("utf-16-le"), b"\xff\xfea"])
def test_what_is_no_list_is_refused_with_its_name(tried, data):
    with pytest.raises(StorageError, match=r"^file:///list\.txt .*save the list as UTF-8"):
        parse_list(data, "file:///list.txt")
    tried("The command", "a list that is no text", "refused: one line that names it")


def test_a_folder_may_be_called_like_a_list(tmp_path):
    (tmp_path / "monday.txt").mkdir()
    (tmp_path / "monday.txt" / "a.wav").write_bytes(b"sound")
    listed = list(storage.list_input(str(tmp_path / "monday.txt"), {".wav"}))
    assert [storage.name_of(entry.uri) for entry in listed] == ["a.wav"]
