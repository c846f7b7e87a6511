"""What every download shares: errors in one line, progress, free space, a lock on the folder and its receipt.

pooch is imported inside: with requests it takes 0.2 s, which `--help` should not.
"""

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from emobeam.model_export.errors import DownloadError

#: What the names of a fetch's own files begin with.
PREFIX = ".emobeam-fetch-"
_CHUNK_BYTES = 1 << 14


@dataclass(frozen=True)
class FetchReport:
    """What `fetch` did: the absolute folder, its files and their total size, and whether any was downloaded."""

    folder: Path
    files: int
    size_bytes: int
    downloaded: bool


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
                "official one; leave --url out or give a true mirror"
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


def downloader(name: str, size_bytes: int, *, show: bool) -> object:
    """Return what pooch downloads a file with: ends it where the server sends more than `size_bytes`.

    Parameters
    ----------
    name : str
        Of the corpus or file, for messages.
    size_bytes : int
    show : bool
        Whether to show the progress on stderr.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it logs every download to stderr
    # Audio does not compress, and a server that compresses it would send another number of bytes.
    return pooch.HTTPDownloader(
        progressbar=_Progress(name, size_bytes, show=show),
        chunk_size=_CHUNK_BYTES,
        timeout=(15, 60),
        headers={"Accept-Encoding": "identity"},
    )


def has_hash(path: Path, known_hash: str) -> bool:
    """Return whether a file has a checksum: SHA-256 in hexadecimal, or ``ALGORITHM:VALUE``."""
    import pooch

    algorithm, _, value = known_hash.rpartition(":")
    return bool(pooch.file_hash(str(path), alg=algorithm or "sha256") == value)


@contextlib.contextmanager
def one_line_errors(url: str, checksum: str, remedy: str) -> Iterator[None]:
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
            f"official one; {remedy}"
        ) from error


def require_web_address(address: str) -> None:
    """Raise DownloadError unless the address is one of the web."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.hostname:
            return
    raise DownloadError(f"{address!r} is no address to download from; give one that starts with https:// or http://")


def require_space(folder: Path, needed: int) -> None:
    """Raise DownloadError unless a folder, which may not exist yet, has so many bytes free."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DownloadError(
            f"{folder} needs {needed / 1e6:,.1f} MB of free space and has {free / 1e6:,.1f} MB; make room or give "
            "another folder"
        )


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
def receiving(folder: Path) -> Iterator[None]:
    """Make a folder and lock it; remove it again if it was made here and is left empty.

    Raises
    ------
    DownloadError
        If the folder cannot be written to, or another fetch writes to it.
    """
    made_here = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            yield
    except OSError as error:
        raise DownloadError(
            f"cannot write to {folder}: {error.strerror or error}; make room or give another folder"
        ) from error
    finally:
        if made_here:  # rmdir leaves a folder that is not empty
            with contextlib.suppress(OSError):
                folder.rmdir()


def write_receipt(folder: Path, name: str, receipt: Mapping[str, Any]) -> None:
    """Write the receipt of what a fetch brought, whole or not at all; ``files`` in it are names and sizes."""
    temporary = folder / f"{PREFIX}{name}.receipt"
    temporary.write_text(json.dumps(receipt, indent=1), encoding="utf-8")
    temporary.replace(folder / f"{PREFIX}{name}.json")


def read_receipt(folder: Path, name: str, **expected: str) -> dict[str, int] | None:
    """Return the names and sizes of what was fetched; None where a file or an expected value is not there."""
    try:
        receipt = json.loads((folder / f"{PREFIX}{name}.json").read_text(encoding="utf-8"))
        files: dict[str, int] = receipt["files"]
        whole = all(receipt[key] == value for key, value in expected.items()) and all(
            (folder / n).stat().st_size == size for n, size in files.items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return files if whole and files else None
