"""Download a corpus and unpack it: ``emobeam fetch``.

What stands in the folder: the archive's own files, and ``.emobeam-fetch-NAME.json``, a receipt that lists them.

- All work is done in ``.emobeam-fetch-NAME.partial`` inside the folder. However the work ends, that is removed; what a
  killed run left of it, the next one removes.
- Nothing is unpacked before the checksum is right and every member of the archive has been judged by its name, kind
  and size. Files move to their places only when all are unpacked.
- The receipt is written last. A folder without one, or with a file missing or of another size, is fetched again.
"""

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import re
import shlex
import shutil
import stat
import struct
import sys
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

_PREFIX = ".emobeam-fetch-"
_CHUNK = 1 << 18

#: Space asked for before the download, in archive sizes: the archive itself and sound unpacked to three times that.
_FORECAST = 4
#: Deflate can blow one byte up to a thousand. Recorded sound comes to two or three, near-silent sound to some more.
_MOST_EXPANSION = 20
_MOST_MEMBERS = 100_000


class FetchError(Exception):
    """An archive cannot be fetched; the message is one line that says what to do."""


@dataclass(frozen=True)
class Archive:
    """A published archive of recordings.

    Attributes
    ----------
    name : str
        As on the command line.
    url : str
        The official address of the zip file.
    size_bytes : int
        Of the zip file.
    md5 : str
        Of the zip file, in hexadecimal.
    licence : str
        What may be done with the recordings, and whom to cite.
    """

    name: str
    url: str
    size_bytes: int
    md5: str
    licence: str


#: The archives that `fetch` knows, by name.
ARCHIVES = {
    "ravdess": Archive(
        name="ravdess",
        url="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
        size_bytes=208_468_073,
        md5="bc696df654c87fed845eb13823edef8a",
        licence=(
            "CC BY-NC-SA 4.0: non-commercial use only; cite Livingstone and Russo (2018), "
            "PLoS ONE 13(5): e0196391, https://doi.org/10.1371/journal.pone.0196391"
        ),
    ),
}


@dataclass(frozen=True)
class FetchReport:
    """What `fetch` did.

    Attributes
    ----------
    archive : Archive
    folder : Path
        Where the files are, absolute.
    files : int
    size_bytes : int
        Of all files together.
    downloaded : bool
        False if the files, or the archive itself, were there already.
    """

    archive: Archive
    folder: Path
    files: int
    size_bytes: int
    downloaded: bool


def fetch(archive: Archive, folder: str | Path, *, url: str | None = None, progress: bool = False) -> FetchReport:
    """Download an archive and unpack it into a folder; do nothing if its files are there.

    A zip file of the archive's own name and checksum that already lies in the folder is used in place of a download,
    and kept.

    Parameters
    ----------
    archive : Archive
    folder : path
        Made where it does not exist. Files in it that have the name of one in the archive are replaced; no others are
        touched.
    url : str, optional
        A mirror to download from. Size and checksum stay those of `archive`.
    progress : bool
        Whether to show the progress on stderr, as a line that rewrites itself.

    Raises
    ------
    FetchError
        If the server cannot be reached or sends something else, if the archive has members that do not belong in the
        folder, if there is no room or no permission to write. Nothing of the archive is left in the folder then,
        unless the disk failed while finished files moved to their places.
    """
    folder = Path(folder).absolute()
    source = url or archive.url
    _require_web_address(source)
    if (there := _read_receipt(archive, folder)) is not None:
        return FetchReport(archive, folder, len(there), sum(there.values()), downloaded=False)
    made_here = False
    try:
        _require_space(folder, archive.size_bytes * _FORECAST)
        made_here = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with _only_one(folder), _work_folder(archive, folder) as work:
            zip_path = _given_by_hand(archive, folder)
            downloaded = zip_path is None
            if zip_path is None:
                zip_path = _download(archive, source, work, progress)
            if progress:
                print(f"{archive.name}: unpacking", file=sys.stderr)
            files = _unpack(archive, zip_path, work / "unpacked", folder)
            _move(work / "unpacked", folder)
            _write_receipt(archive, files, work, folder)
    except OSError as error:
        raise FetchError(
            f"cannot write to {folder}: {error.strerror or error}; make room or give another folder"
        ) from error
    finally:
        if made_here:
            # A folder that was made for files that did not come: rmdir leaves it where anything is in it.
            with contextlib.suppress(OSError):
                folder.rmdir()
    return FetchReport(archive, folder, len(files), sum(files.values()), downloaded=downloaded)


def _require_web_address(source: str) -> None:
    try:
        parts = urlsplit(source)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise FetchError(f"{source!r} is no address to download from; give one that starts with https:// or http://")


def _require_space(folder: Path, needed: int) -> None:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise FetchError(
            f"{folder} needs {_megabytes(needed)} MB of free space and has {_megabytes(free)} MB; make room or give "
            "another folder"
        )


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f}"


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keep a second fetch away from the folder; the lock dies with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FetchError(f"another fetch is writing to {folder}; wait until it is done") from None
        except OSError:
            pass  # some network file systems lock no folders, and a fetch is worth having there too
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _work_folder(archive: Archive, folder: Path) -> Iterator[Path]:
    # Inside the folder, so that moving finished files is a rename and never a copy.
    work = folder / f"{_PREFIX}{archive.name}.partial"
    if work.exists():
        shutil.rmtree(work)
    try:
        work.mkdir()
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


# The download


class _Sink:
    """The file that a download is written to: takes no more than the archive has, and shows how far it is."""

    def __init__(self, file: BinaryIO, archive: Archive, *, show: bool) -> None:
        self._file = file
        self._archive = archive
        self._show = show
        self._written = 0
        self._started = time.monotonic()
        self._shown = float("-inf")

    def write(self, chunk: bytes) -> None:
        self._written += len(chunk)
        size = self._archive.size_bytes
        if self._written > size:
            raise FetchError(
                f"the server sends more than the {size} bytes that {self._archive.name} has: it is not the official "
                "archive; leave --url out or give a true mirror"
            )
        self._file.write(chunk)
        now = time.monotonic()
        if self._show and (now - self._shown > 0.2 or self._written == size):
            self._shown = now
            rate = self._written / max(now - self._started, 1e-3)
            line = (
                f"{self._archive.name}: {_megabytes(self._written)} of {_megabytes(size)} MB, "
                f"{100 * self._written // size} %, {_megabytes(rate)} MB/s, {(size - self._written) / rate:.0f} s left"
            )
            print(f"\r{line:<72}", end="", file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Leave flushing to the file's own buffer, though pooch asks for it after every chunk."""

    def close(self) -> None:
        if self._shown > 0:
            print(file=sys.stderr)


def _given_by_hand(archive: Archive, folder: Path) -> Path | None:
    """Return the archive if it lies in the folder, for those whose machine cannot reach the server."""
    import pooch  # with requests, 0.2 s that `--help` need not pay

    path = folder / _zip_name(archive)
    if not path.is_file() or path.stat().st_size != archive.size_bytes:
        return None
    return path if pooch.file_hash(str(path), alg="md5") == archive.md5 else None


def _zip_name(archive: Archive) -> str:
    return PurePosixPath(urlsplit(archive.url).path).name


def _download(archive: Archive, source: str, work: Path, progress: bool) -> Path:
    import pooch
    import requests

    # The archive is compressed itself, and a server that compresses it again would upset the count of bytes.
    over_http = pooch.HTTPDownloader(chunk_size=_CHUNK, timeout=(15, 60), headers={"Accept-Encoding": "identity"})

    def to_sink(url: str, output_file: str, _: Any) -> None:
        with Path(output_file).open("wb") as file, contextlib.closing(_Sink(file, archive, show=progress)) as sink:
            over_http(url, sink, None)

    otherwise = f"try again later, give a mirror with --url, or put {_zip_name(archive)} into the folder yourself"
    server = urlsplit(source).netloc.rpartition("@")[2]
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # it tells every download on stderr
    try:
        known_hash = f"md5:{archive.md5}"
        return Path(pooch.retrieve(source, known_hash, fname="archive.zip", path=work, downloader=to_sink))
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        said = f"{code} {http.client.responses.get(code, '')}".strip()
        raise FetchError(f"{server} answered {said} for {source}; {otherwise}") from error
    except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
        raise FetchError(f"the download from {server} broke off before its end; {otherwise}") from error
    except requests.RequestException as error:
        raise FetchError(f"no connection to {server} ({type(error).__name__}); {otherwise}") from error
    except ValueError as error:
        raise FetchError(
            f"what {server} sent has the wrong checksum (MD5 {archive.md5} is right): it is damaged or not the "
            f"official archive; {otherwise}"
        ) from error
    finally:
        logger.setLevel(level)


# The unpacking


def _unpack(archive: Archive, zip_path: Path, target: Path, folder: Path) -> dict[str, int]:
    """Unpack all members below `target`, which is new, and return their names and sizes."""
    try:
        with zipfile.ZipFile(zip_path) as zipped:
            members = _checked_members(archive, zipped)
            sizes = {info.filename: info.file_size for info in members}
            _require_way(sizes, folder)
            _require_space(folder, sum(sizes.values()))
            for info in members:
                _unpack_member(zipped, info, target / info.filename)
    # All that zipfile and zlib raise on bytes that are no sound zip file.
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError) as error:
        raise FetchError(f"the archive of {archive.name} is no sound zip file ({error}); fetch it again") from error
    return sizes


def _unpack_member(zipped: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # "x": a name that is a second one for a file there, by rules of the file system, is an error.
    with zipped.open(info) as member, path.open("xb") as file:
        shutil.copyfileobj(member, file, _CHUNK)
        if file.tell() != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename!r} is shorter than it says")


def _checked_members(archive: Archive, zipped: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the members that are files, once it is clear that all members belong into the folder."""
    members = zipped.infolist()
    if len(members) > _MOST_MEMBERS:
        raise _refusal(archive, f"it has {len(members)} members, more than the {_MOST_MEMBERS} allowed")
    for info in members:
        if (objection := _objection(info)) is not None:
            raise _refusal(archive, f"its member {info.orig_filename!r} {objection}")
    files = [info for info in members if not info.filename.endswith("/")]
    if not files:
        raise _refusal(archive, "it holds no files")
    size = sum(info.file_size for info in files)
    if size > archive.size_bytes * _MOST_EXPANSION:
        raise _refusal(
            archive,
            f"it would unpack to {_megabytes(size)} MB, over {_MOST_EXPANSION} times its size, as no recordings do",
        )
    # File systems differ in which names they take for the same one: refuse what any of them would.
    names = [unicodedata.normalize("NFC", info.filename).casefold() for info in files]
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    taken: set[str] = set()
    for info, name in zip(files, names, strict=True):
        if name in taken or name in folders:
            raise _refusal(archive, f"its member {info.orig_filename!r} has the name of another")
        taken.add(name)
    return files


def _objection(info: zipfile.ZipInfo) -> str | None:
    """Return why a member may not be unpacked, or None."""
    # The name can be told twice, and zipfile mends what it finds: neither form may be bad.
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
        if parts[0].casefold().startswith(_PREFIX):
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


def _refusal(archive: Archive, reason: str) -> FetchError:
    return FetchError(
        f"the archive of {archive.name} is refused: {reason}; nothing was unpacked, do not trust its source"
    )


def _require_way(names: dict[str, int], folder: Path) -> None:
    """Refuse to write through links out of the folder, and to put a file where a folder is, or the reverse."""
    parents = {parent for name in names for parent in PurePosixPath(name).parents}
    for path in (folder / parent for parent in sorted(parents) if parent.parts):
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise FetchError(f"{path} is in the way: a folder must stand there; move it away or give another folder")
    for path in (folder / name for name in names):
        if path.is_dir() and not path.is_symlink():
            raise FetchError(f"{path} is in the way: a file must stand there; move it away or give another folder")


def _move(source: Path, target: Path) -> None:
    """Move a tree to its place: whole where nothing is there, else file by file, replacing."""
    if source.is_dir() and target.is_dir():
        for child in sorted(source.iterdir()):
            _move(child, target / child.name)
    else:
        source.replace(target)


# The receipt


def _receipt_path(archive: Archive, folder: Path) -> Path:
    return folder / f"{_PREFIX}{archive.name}.json"


def _write_receipt(archive: Archive, files: dict[str, int], work: Path, folder: Path) -> None:
    receipt = {"archive": archive.name, "md5": archive.md5, "licence": archive.licence, "files": files}
    written = work / "receipt.json"
    written.write_text(json.dumps(receipt, indent=1), encoding="utf-8")
    written.replace(_receipt_path(archive, folder))


def _read_receipt(archive: Archive, folder: Path) -> dict[str, int] | None:
    """Return the names and sizes of the archive's files if every one of them is in the folder."""
    try:
        receipt = json.loads(_receipt_path(archive, folder).read_text(encoding="utf-8"))
        files: dict[str, int] = receipt["files"]
        same = receipt["md5"] == archive.md5 and all(
            (folder / name).stat().st_size == size for name, size in files.items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return files if same and files else None


# The command


def add_fetch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``emobeam fetch`` to its parser."""
    parser.add_argument("corpus", choices=sorted(ARCHIVES), help="which archive")
    parser.add_argument("dir", type=Path, metavar="DIR", help="the folder to unpack it into; made if it is not there")
    parser.add_argument("--url", help="a mirror to download from; the checksum stays that of the official archive")


def run_fetch(args: argparse.Namespace) -> int:
    """Run ``emobeam fetch`` and return its exit code."""
    archive = ARCHIVES[args.corpus]
    print(f"{archive.name}: {archive.licence}", flush=True)
    try:
        report = fetch(archive, args.dir, url=args.url, progress=sys.stderr.isatty())
    except FetchError as error:
        print(f"emobeam fetch: {error}", file=sys.stderr)
        return 1
    amount = f"{report.files} files, {_megabytes(report.size_bytes)} MB"
    if report.downloaded:
        print(f"{archive.name}: {amount} in {report.folder}")
    else:
        print(f"{archive.name}: {amount} in {report.folder}; nothing was downloaded, it was there already")
    print(f"next: emobeam train --corpus {shlex.quote(f'{archive.name}={args.dir}')} --out runs/first")
    return 0
