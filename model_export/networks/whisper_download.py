"""Download the weights of Whisper base's encoder: ``emobeam fetch whisper-base``.

The folder gets ``whisper-base.npz``, which `networks.whisper.load_whisper` reads, and a receipt. The receipt is written
last and states where the weights came from. A folder without one is fetched again.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from emobeam.model_export.downloads import (
    PREFIX,
    FetchReport,
    downloader,
    one_line_errors,
    read_receipt,
    receiving,
    require_space,
    require_web_address,
    write_receipt,
)
from emobeam.model_export.errors import DownloadError

WEIGHTS_FILE = "whisper-base.npz"
#: The encoder's 20.6 million numbers in half precision.
_WEIGHTS_BYTES = 41_300_000


@dataclass(frozen=True)
class WeightsSource:
    """Published weights.

    Attributes
    ----------
    name : str
        As on the command line.
    url : str
    size_bytes : int
    sha256 : str
        In hexadecimal.
    licence : str
        What may be done with them, and whom to cite.
    """

    name: str
    url: str
    size_bytes: int
    sha256: str
    licence: str


#: The address and the checksum are those in OpenAI's package openai-whisper, whisper/__init__.py.
WHISPER_BASE = WeightsSource(
    name="whisper-base",
    url=(
        "https://openaipublic.azureedge.net/main/whisper/models/"
        "ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e/base.pt"
    ),
    size_bytes=145_262_807,
    sha256="ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e",
    licence=(
        "MIT, copyright 2022 OpenAI: any use that keeps the notice; cite Radford et al. (2022), Robust Speech "
        "Recognition via Large-Scale Weak Supervision, https://arxiv.org/abs/2212.04356"
    ),
)


def fetch_whisper(
    folder: str | Path,
    source: WeightsSource = WHISPER_BASE,
    *,
    url: str | None = None,
    file: Path | None = None,
    progress: bool = False,
) -> FetchReport:
    """Put the weights of Whisper base's encoder into a folder; do nothing if they are there.

    Parameters
    ----------
    folder : path
        Made if absent.
    source : WeightsSource
    url : str, optional
        A mirror to download from. Size and checksum stay those of `source`.
    file : Path, optional
        A copy to convert instead of a download, as `whisper_weights.convert` takes it. Its checksum is not required,
        and stated in the receipt.
    progress : bool
        Whether to show the progress on stderr, as a line that rewrites itself.

    Raises
    ------
    DownloadError
        If the server cannot be reached or sends something else, `file` cannot be read, both `url` and `file` are
        given, or there is no room or no permission to write.
    ModelExportError
        If `file` holds other weights.
    """
    folder = Path(folder).absolute()
    if url is not None and file is not None:
        raise DownloadError("--from converts a file that is there, and --url names one to download: leave out either")
    require_web_address(url or source.url)
    if (there := read_receipt(folder, source.name, weights=source.sha256)) is not None:
        return FetchReport(folder, len(there), sum(there.values()), downloaded=False)
    require_space(folder, _WEIGHTS_BYTES + (source.size_bytes if file is None else 0))
    with receiving(folder), TemporaryDirectory(prefix=PREFIX, dir=folder) as work:
        # Here, since it imports NumPy, which `--help` does without.
        from emobeam.model_export.networks.whisper_weights import convert

        given = file if file is not None else _download(source, url, Path(work), progress)
        origin = {"from": str(given if file is not None else url or source.url), "sha256": _sha256(given)}
        converted = Path(work, WEIGHTS_FILE)
        convert(given, converted)
        size = converted.stat().st_size
        converted.replace(folder / WEIGHTS_FILE)
        receipt = {"weights": source.sha256, **origin, "licence": source.licence, "files": {WEIGHTS_FILE: size}}
        write_receipt(folder, source.name, receipt)
    return FetchReport(folder, 1, size, downloaded=file is None)


def _download(source: WeightsSource, url: str | None, work: Path, progress: bool) -> Path:
    import pooch

    address = url or source.url
    remedy = "try again later, give a mirror with --url, or a copy of base.pt with --from"
    with one_line_errors(address, f"SHA-256 {source.sha256}", remedy):
        over_http = downloader(source.name, source.size_bytes, show=progress)
        return Path(pooch.retrieve(address, f"sha256:{source.sha256}", "base.pt", work, downloader=over_http))


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DownloadError(f"cannot read {file}: {error.strerror or error}; check the path after --from") from error
