"""Lists of recordings: text files with one path or uri a line."""

import codecs

from emobeam.storage.entries import StorageError

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def parse_list(data: bytes, uri: str) -> list[bytes]:
    r"""Return the names in a list.

    Empty lines and lines that begin with ``#`` are skipped. A line in double quotes is the name between them. Names are
    bytes, since a path may be no text; a list in UTF-16, as Windows writes it, is converted.

    Parameters
    ----------
    data : bytes
        Of the whole list.
    uri : str
        Of the list, for errors.

    Raises
    ------
    StorageError
        ``unreadable`` for data that is no text.

    Examples
    --------
    >>> parse_list(b'# two\r\na.wav\r\n"b c.wav"\r\n', "file:///list.txt")
    [b'a.wav', b'b c.wav']
    """
    if data.startswith(_UTF_16):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise StorageError(
                "unreadable", f"{uri} begins as UTF-16 and is not: {error.reason}; save the list as UTF-8"
            ) from error
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise StorageError(
            "unreadable", f"{uri} is no list: its line {line} holds a zero byte; save the list as UTF-8, a name a line"
        )
    names = (line.rstrip(b"\r") for line in data.split(b"\n"))
    return [_unquoted(name) for name in names if name.strip() and not name.startswith(b"#")]


def _unquoted(name: bytes) -> bytes:
    bare = name.strip()
    quoted = len(bare) > 1 and bare.startswith(b'"') and bare.endswith(b'"')
    return bare[1:-1] if quoted else name
