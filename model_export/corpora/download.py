"""Download a corpus: ``emobeam fetch``.

Layout of the folder: the corpus's own files, and ``.emobeam-fetch-NAME.json``, a receipt that lists them.

- Downloads go to ``.emobeam-fetch-NAME.partial`` inside the folder. Files move to their places when all are there.
- An archive is unpacked after its checksum and all its members are checked. If that fails, nothing is kept.
- A corpus published file by file keeps finished files in ``.partial`` if a fetch fails; the next fetch goes on.
- The receipt is written last. A folder without one, or with a file missing or of another size, is fetched again.
"""

import argparse
import contextlib
import fcntl
import gzip
import http.client
import json
import os
import shlex
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from emobeam.model_export.corpora.sources import SOURCES, Source
from emobeam.model_export.corpora.zip_members import checked_members
from emobeam.model_export.errors import DownloadError

# pooch is imported inside: with requests it takes 0.2 s, which `--help` should not.

_PREFIX = ".emobeam-fetch-"
_CHUNK_BYTES = 1 << 14
_CONCURRENT_DOWNLOADS = 8
#: Further attempts at each file of a corpus that is published file by file.
RETRIES = 2


@dataclass(frozen=True)
class FetchReport:
    """What `fetch` did: the absolute folder, its files and their total size, and whether any was downloaded."""

    folder: Path
    files: int
    size_bytes: int
    downloaded: bool


def fetch(source: Source, folder: str | Path, *, url: str | None = None, progress: bool = False) -> FetchReport:
    """Download a corpus into a folder; do nothing if its files are there.

    Files in the folder that are the corpus's own by checksum, or its zip file, are not downloaded again.

    Parameters
    ----------
    source : Source
    folder : path
        Made if absent. Files in it that have the name of one of the corpus are replaced; no others are touched.
    url : str, optional
        A mirror to download from. Sizes and checksums stay those of `source`.
    progress : bool
        Whether to show the progress on stderr, as a line that rewrites itself.

    Raises
    ------
    DownloadError
        If the server cannot be reached or sends something else, an archive is refused, or there is no room or no
        permission to write.
    """
    folder = Path(folder).absolute()
    _require_web_address(url or source.url)
    if (there := _read_receipt(source, folder)) is not None:
        return FetchReport(folder, len(there), sum(there.values()), downloaded=False)
    made_here = False
    try:
        if source.registry is None:  # the archive, and its files at three times its size
            _require_space(folder, 4 * source.size_bytes)
        made_here = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder), _work_folder(source, folder) as work:
            fetch_to = _fetch_archive if source.registry is None else _fetch_files
            files, downloaded = fetch_to(source, url, folder, work, progress)
            for name in files:
                if (work / "files" / name).exists():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (work / "files" / name).replace(folder / name)
            _write_receipt(source, files, work, folder)
    except OSError as error:
        raise DownloadError(
            f"cannot write to {folder}: {error.strerror or error}; make room or give another folder"
        ) from error
    finally:
        if made_here:  # rmdir leaves a folder that is not empty
            with contextlib.suppress(OSError):
                folder.rmdir()
    return FetchReport(folder, len(files), sum(files.values()), downloaded=downloaded)


def _fetch_archive(
    source: Source, url: str | None, folder: Path, work: Path, progress: bool
) -> tuple[dict[str, int], bool]:
    """Download a zip file and unpack it; return the sizes of its files, and whether it was downloaded."""
    import pooch

    path = folder / PurePosixPath(urlsplit(source.url).path).name
    given = path.is_file() and path.stat().st_size == source.size_bytes and _has_hash(path, f"md5:{source.md5}")
    if not given:
        remedy = f"try again later, give a mirror with --url, or put {path.name} into the folder yourself"
        address = url or source.url
        with _one_line_errors(address, f"MD5 {source.md5}", remedy):
            downloader = _downloader(source.name, source.size_bytes, show=progress)
            path = Path(pooch.retrieve(address, f"md5:{source.md5}", "archive.zip", work, downloader=downloader))
    if progress:
        print(f"{source.name}: unpacking", file=sys.stderr)
    try:
        with zipfile.ZipFile(path) as zipped:
            sizes = checked_members(source.name, zipped, size_bytes=source.size_bytes, reserved=_PREFIX)
        _require_clear_way(sizes, folder)
        _require_space(folder, sum(sizes.values()))
        pooch.Unzip(extract_dir=str(work / "files"))(str(path), "download", None)
        short = [name for name, size in sizes.items() if (work / "files" / name).stat().st_size != size]
        damage: object = f"{short[0]!r} is shorter than it says" if short else None
    # All that zipfile and zlib raise on an invalid zip file.
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError) as error:
        damage = error
    if damage is not None:
        raise DownloadError(f"the archive of {source.name} is no sound zip file ({damage}); fetch it again")
    return sizes, not given


def _fetch_files(
    source: Source, url: str | None, folder: Path, work: Path, progress: bool
) -> tuple[dict[str, int], bool]:
    """Download the files of a registry, several at once; return their sizes, and whether any was missing."""
    import pooch

    assert source.registry is not None
    lines = [line.split() for line in gzip.decompress(source.registry.read_bytes()).decode("ascii").splitlines()]
    hashes = {name: sha256 for name, sha256, *_ in lines}
    sizes = {name: int(size) for name, _, size, *_ in lines}
    _require_clear_way(sizes, folder)
    missing = [name for name in sizes if not ((folder / name).is_file() and _has_hash(folder / name, hashes[name]))]
    _require_space(folder, sum(sizes[name] for name in missing))
    files = pooch.create(
        work / "files",
        f"{(url or source.url).rstrip('/')}/",
        registry=hashes,
        urls={} if url else {name: rest[0] for name, _, _, *rest in lines if rest},
        retry_if_failed=RETRIES,
    )
    for name in missing:  # pooch makes folders too, but fails if two threads make one at once
        (work / "files" / name).parent.mkdir(parents=True, exist_ok=True)
    remedy = "run it again, which keeps the finished files, or give a mirror with --url"

    def fetch_one(name: str) -> None:
        with _one_line_errors(files.get_url(name), f"SHA-256 {hashes[name]}", remedy):
            files.fetch(name, downloader=_downloader(source.name, sizes[name], show=False))

    with ThreadPoolExecutor(_CONCURRENT_DOWNLOADS) as pool:
        try:
            for done, _ in enumerate(pool.map(fetch_one, missing), start=1):
                if progress:
                    print(f"\r{source.name}: {done} of {len(missing)} files", end="", file=sys.stderr, flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
            if progress:
                print(file=sys.stderr)
    return sizes, bool(missing)


class _Progress:
    """What pooch reports a download to: shows its progress, and ends it where there is more than was published."""

    def __init__(self, name: str, size_bytes: int, *, show: bool) -> None:
        self.total = 0  # pooch sets it to the server's claim
        self._name, self._size_bytes, self._show, self._done = name, size_bytes, show, 0

    def update(self, count: int) -> None:
        """Add a chunk; pooch counts each as a full one."""
        self._done += count
        if self._done >= self._size_bytes + 2 * _CHUNK_BYTES:
            raise DownloadError(
                f"the server sends more than the {self._size_bytes} bytes that {self._name} has: it is not the "
                "official corpus; leave --url out or give a true mirror"
            )
        if self._show:
            done = min(self._done, self._size_bytes)
            line = (
                f"{self._name}: {done / 1e6:,.1f} of {self._size_bytes / 1e6:,.1f} MB, "
                f"{100 * done // self._size_bytes} %"
            )
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    def reset(self) -> None:
        """Prepare for pooch's last update, which adds `total`: the download is then complete."""
        self._done = self._size_bytes - self.total

    def close(self) -> None:
        """End the line."""
        if self._show:
            print(file=sys.stderr)


def _downloader(name: str, size_bytes: int, *, show: bool) -> object:
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it logs every download to stderr
    # Audio does not compress, and a server that compresses it would send another number of bytes.
    return pooch.HTTPDownloader(
        progressbar=_Progress(name, size_bytes, show=show),
        chunk_size=_CHUNK_BYTES,
        timeout=(15, 60),
        headers={"Accept-Encoding": "identity"},
    )


def _has_hash(path: Path, known_hash: str) -> bool:
    import pooch

    algorithm, _, value = known_hash.rpartition(":")
    return bool(pooch.file_hash(str(path), alg=algorithm or "sha256") == value)


@contextlib.contextmanager
def _one_line_errors(url: str, checksum: str, remedy: str) -> Iterator[None]:
    """Turn what pooch and requests raise into a `DownloadError`."""
    import requests

    server = urlsplit(url).netloc.rpartition("@")[2]
    try:
        yield
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        status = f"{code} {http.client.responses.get(code, '')}".strip()
        raise DownloadError(f"{server} answered {status} for {url}; {remedy}") from error
    except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
        raise DownloadError(f"the download from {server} broke off before its end; {remedy}") from error
    except requests.RequestException as error:
        raise DownloadError(f"no connection to {server} ({type(error).__name__}); {remedy}") from error
    except ValueError as error:
        raise DownloadError(
            f"what {server} sent for {url} has the wrong checksum ({checksum} is right): it is damaged or not the "
            f"official corpus; {remedy}"
        ) from error


def _require_web_address(address: str) -> None:
    with contextlib.suppress(ValueError):
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.hostname:
            return
    raise DownloadError(f"{address!r} is no address to download from; give one that starts with https:// or http://")


def _require_space(folder: Path, needed: int) -> None:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DownloadError(
            f"{folder} needs {needed / 1e6:,.1f} MB of free space and has {free / 1e6:,.1f} MB; make room or give "
            "another folder"
        )


def _require_clear_way(names: Mapping[str, int], folder: Path) -> None:
    """Refuse to write through links out of the folder, and to put a file where a folder is, or the reverse."""
    parents = {folder / parent for name in names for parent in PurePosixPath(name).parents if parent.parts}
    blocked = [path for path in sorted(parents) if path.is_symlink() or (path.exists() and not path.is_dir())]
    blocked += [path for path in map(folder.joinpath, names) if path.is_dir() and not path.is_symlink()]
    if blocked:
        raise DownloadError(f"{blocked[0]} is in the way of the corpus; move it away or give another folder")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second fetch away from the folder; the lock ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise DownloadError(f"another fetch is writing to {folder}; wait until it is done") from None
    except OSError:
        pass  # some network file systems cannot lock folders; fetch without a lock there
    try:
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _work_folder(source: Source, folder: Path) -> Iterator[Path]:
    # Inside the folder, so that moving finished files is a rename and never a copy.
    work = folder / f"{_PREFIX}{source.name}.partial"
    if source.registry is None and work.exists():
        shutil.rmtree(work)
    kept = source.registry is not None
    try:
        work.mkdir(exist_ok=True)
        yield work
        kept = False
    finally:
        if not kept or not any(path.is_file() for path in work.rglob("*")):
            shutil.rmtree(work, ignore_errors=True)


def _write_receipt(source: Source, files: Mapping[str, int], work: Path, folder: Path) -> None:
    receipt = {"corpus": source.name, "md5": source.md5, "licence": source.licence, "files": files}
    (work / "receipt.json").write_text(json.dumps(receipt, indent=1), encoding="utf-8")
    (work / "receipt.json").replace(folder / f"{_PREFIX}{source.name}.json")


def _read_receipt(source: Source, folder: Path) -> dict[str, int] | None:
    """Return the names and sizes of the corpus's files if every one of them is in the folder."""
    try:
        receipt = json.loads((folder / f"{_PREFIX}{source.name}.json").read_text(encoding="utf-8"))
        files: dict[str, int] = receipt["files"]
        whole = receipt["md5"] == source.md5 and all((folder / n).stat().st_size == size for n, size in files.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return files if whole and files else None


def add_fetch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``emobeam fetch`` to its parser."""
    parser.add_argument("corpus", choices=sorted(SOURCES), help="which corpus")
    parser.add_argument("dir", type=Path, metavar="DIR", help="the folder to put it into; made if it is not there")
    parser.add_argument(
        "--url", help="a mirror: of the zip file, or of the folder with AudioWAV; the official checksums stay required"
    )


def run_fetch(args: argparse.Namespace) -> int:
    """Run ``emobeam fetch`` and return its exit code."""
    source = SOURCES[args.corpus]
    print(f"{source.name}: {source.licence}", flush=True)
    try:
        report = fetch(source, args.dir, url=args.url, progress=sys.stderr.isatty())
    except DownloadError as error:
        print(f"emobeam fetch: {error}", file=sys.stderr)
        return 1
    amount = f"{report.files} files, {report.size_bytes / 1e6:,.1f} MB in {report.folder}"
    print(f"{source.name}: {amount}" + ("" if report.downloaded else "; nothing was downloaded, it was there already"))
    print(f"next: emobeam train --corpus {shlex.quote(f'{source.name}={args.dir}')} --out runs/first")
    return 0
