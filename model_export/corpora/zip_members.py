"""The members of a zip archive of recordings, checked before any is unpacked."""

import re
import stat
import unicodedata
import zipfile
from pathlib import PurePosixPath

from emobeam.model_export.errors import DownloadError

#: Deflate can turn one byte into a thousand. Recorded sound comes to two or three, near-silent sound to some more.
MAX_EXPANSION = 20
MAX_MEMBERS = 100_000


def checked_members(name: str, zipped: zipfile.ZipFile, *, size_bytes: int, reserved: str) -> dict[str, int]:
    """Return the names and sizes of the files in an archive.

    `zipfile` reads no more of a member than the size that the archive states, so the sizes are upper bounds.

    Parameters
    ----------
    name : str
        Of the corpus, for messages.
    zipped : zipfile.ZipFile
    size_bytes : int
        Of the archive.
    reserved : str
        Prefix, in lower case, that no member at the top may have.

    Raises
    ------
    DownloadError
        If a member is not a plain file or folder below the target folder, two names could be one file, or the
        archive unpacks to more than recordings do.
    """
    members = zipped.infolist()
    if len(members) > MAX_MEMBERS:
        raise _refusal(name, f"it has {len(members)} members, more than the {MAX_MEMBERS} allowed")
    for info in members:
        if (objection := _objection(info, reserved)) is not None:
            raise _refusal(name, f"its member {info.orig_filename!r} {objection}")
    files = [info for info in members if not info.is_dir()]
    if not files:
        raise _refusal(name, "it holds no files")
    size = sum(info.file_size for info in files)
    if size > size_bytes * MAX_EXPANSION:
        raise _refusal(
            name, f"it would unpack to {size / 1e6:,.1f} MB, over {MAX_EXPANSION} times its size, as no recordings do"
        )
    # File systems differ in which names are one file: refuse what any of them would merge.
    keys = [unicodedata.normalize("NFC", info.filename).casefold() for info in files]
    used = {str(parent) for key in keys for parent in PurePosixPath(key).parents}
    for info, key in zip(files, keys, strict=True):
        if key in used:
            raise _refusal(name, f"its member {info.orig_filename!r} has the name of another")
        used.add(key)
    return {info.filename: info.file_size for info in files}


def _objection(info: zipfile.ZipInfo, reserved: str) -> str | None:
    """Return why a member may not be unpacked, or None."""
    # An archive states each name twice, and zipfile repairs what it reads: neither form may be bad.
    for name in (info.orig_filename, info.filename):
        parts = name.removesuffix("/").split("/")
        if name.startswith("/") or re.match("[A-Za-z]:", name):
            return "has an absolute path"
        if ".." in parts:
            return "leads out of the folder"
        if "\\" in name:
            return "has a backslash in its name"
        if "" in parts or "." in parts or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
            return "has a name that is none"
        if parts[0].casefold().startswith(reserved):
            return "has a name that is kept for the fetch itself"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in an unusual way"
    return None


def _refusal(name: str, reason: str) -> DownloadError:
    return DownloadError(f"the archive of {name} is refused: {reason}; nothing was unpacked, do not trust its source")
