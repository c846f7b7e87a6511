"""Download a corpus: ``emobeam fetch CORPUS``.

Layout of the folder: the corpus's own files, and ``.emobeam-fetch-NAME.json``, a receipt that lists them.

- Downloads go to ``.emobeam-fetch-NAME.partial`` inside the folder. Files move to their places when all are there.
- An archive is unpacked after its checksum and all its members are checked. If that fails, nothing is kept.
- A corpus published file by file keeps finished files in ``.partial`` if a fetch fails; the next fetch goes on.
- The receipt is written last. A folder without one, or with a file missing or of another size, is fetched again.
"""

import gzip
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from emobeam.model_export.corpora.sources import Source
from emobeam.model_export.corpora.zip_members import checked_members
from emobeam.model_export.downloads import (
    PREFIX,
    FetchReport,
    downloader,
    has_hash,
    one_line_errors,
    read_receipt,
    receiving,
    require_space,
    require_web_address,
    write_receipt,
)
from emobeam.model_export.errors import DownloadError

_CONCURRENT_DOWNLOADS = 8
#: Further attempts at each file of a corpus that is published file by file.
RETRIES = 2


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
    require_web_address(url or source.url)
    if (there := read_receipt(folder, source.name, md5=source.md5)) is not None:
        return FetchReport(folder, len(there), sum(there.values()), downloaded=False)
    if source.registry is None:  # the archive, and its files at three times its size
        require_space(folder, 4 * source.size_bytes)
    with receiving(folder), _work_folder(source, folder) as work:
        fetch_to = _fetch_archive if source.registry is None else _fetch_files
        files, downloaded = fetch_to(source, url, folder, work, progress)
        for name in files:
            if (work / "files" / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (work / "files" / name).replace(folder / name)
        receipt = {"corpus": source.name, "md5": source.md5, "licence": source.licence, "files": files}
        write_receipt(folder, source.name, receipt)
    return FetchReport(folder, len(files), sum(files.values()), downloaded=downloaded)


def _fetch_archive(
    source: Source, url: str | None, folder: Path, work: Path, progress: bool
) -> tuple[dict[str, int], bool]:
    """Download a zip file and unpack it; return the sizes of its files, and whether it was downloaded."""
    import pooch

    path = folder / PurePosixPath(urlsplit(source.url).path).name
    given = path.is_file() and path.stat().st_size == source.size_bytes and has_hash(path, f"md5:{source.md5}")
    if not given:
        remedy = f"try again later, give a mirror with --url, or put {path.name} into the folder yourself"
        address = url or source.url
        with one_line_errors(address, f"MD5 {source.md5}", remedy):
            over_http = downloader(source.name, source.size_bytes, show=progress)
            path = Path(pooch.retrieve(address, f"md5:{source.md5}", "archive.zip", work, downloader=over_http))
    if progress:
        print(f"{source.name}: unpacking", file=sys.stderr)
    try:
        with zipfile.ZipFile(path) as zipped:
            sizes = checked_members(source.name, zipped, size_bytes=source.size_bytes, reserved=PREFIX)
        _require_clear_way(sizes, folder)
        require_space(folder, sum(sizes.values()))
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
    missing = [name for name in sizes if not ((folder / name).is_file() and has_hash(folder / name, hashes[name]))]
    require_space(folder, sum(sizes[name] for name in missing))
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
        with one_line_errors(files.get_url(name), f"SHA-256 {hashes[name]}", remedy):
            files.fetch(name, downloader=downloader(source.name, sizes[name], show=False))

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


def _require_clear_way(names: Mapping[str, int], folder: Path) -> None:
    """Refuse to write through links out of the folder, and to put a file where a folder is, or the reverse."""
    parents = {folder / parent for name in names for parent in PurePosixPath(name).parents if parent.parts}
    blocked = [path for path in sorted(parents) if path.is_symlink() or (path.exists() and not path.is_dir())]
    blocked += [path for path in map(folder.joinpath, names) if path.is_dir() and not path.is_symlink()]
    if blocked:
        raise DownloadError(f"{blocked[0]} is in the way of the corpus; move it away or give another folder")


@contextmanager
def _work_folder(source: Source, folder: Path) -> Iterator[Path]:
    # Inside the folder, so that moving finished files is a rename and never a copy.
    work = folder / f"{PREFIX}{source.name}.partial"
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
