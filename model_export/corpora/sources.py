"""Where corpora are published, with sizes and checksums."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A published corpus.

    Attributes
    ----------
    name : str
        As on the command line.
    url : str
        Of the zip file, or of the folder that the registry's names are below.
    size_bytes : int
        Of the zip file, or of all files.
    md5 : str
        Of the zip file, or of the registry; in hexadecimal.
    licence : str
        What may be done with the recordings, and whom to cite.
    registry : Path or None
        For a corpus published file by file: gzipped text, a line a file, with its name, SHA-256, size in bytes and, if
        it is not below `url`, its own address.
    """

    name: str
    url: str
    size_bytes: int
    md5: str
    licence: str
    registry: Path | None = None


#: What `emobeam fetch` can download, by name.
SOURCES = {
    "crema_d": Source(
        name="crema_d",
        url="https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master",
        size_bytes=605_903_969,
        md5="c4ee5ae4700681b306a9d0f0f084f127",
        licence=(
            "ODbL 1.0, its contents DbCL 1.0: any use that names the source; cite Cao et al. (2014), IEEE "
            "Transactions on Affective Computing 5(4): 377-390, https://doi.org/10.1109/TAFFC.2014.2336244"
        ),
        # From the Git LFS pointers of https://github.com/CheyneyComputerScience/CREMA-D at commit 1658cd34.
        registry=Path(__file__).with_name("crema_d.txt.gz"),
    ),
    "ravdess": Source(
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
