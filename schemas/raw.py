"""The formats of recordings without a header, which the caller names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: Codings of samples: vox is Dialogic's ADPCM, gsm is GSM 06.10.
RAW_ENCODINGS = ("ulaw", "alaw", "s16le", "s16be", "u8", "vox", "gsm")

#: Other names of them.
_ALIASES = {"mulaw": "ulaw", "mu-law": "ulaw", "u-law": "ulaw", "a-law": "alaw", "s16": "s16le", "dialogic": "vox"}

#: File name extensions of recordings without a header.
HEADERLESS = frozenset({".ul", ".ulaw", ".al", ".alaw", ".sln", ".vox", ".raw", ".pcm"})

_EXTENSION = re.compile(r"\.?[^\s./=,]+")


@dataclass(frozen=True)
class RawFormat:
    """The format of a recording without a header.

    Attributes
    ----------
    encoding : str
        One of `RAW_ENCODINGS`.
    rate : int
        In Hz.
    channels : int
    """

    encoding: str
    rate: int
    channels: int = 1

    @classmethod
    def parse(cls, text: str) -> "RawFormat":
        """Return the format that ``ENCODING,RATE,CHANNELS`` says; ``mulaw`` and the like name an encoding too.

        Raises
        ------
        ValueError
            With what is wrong.
        """
        encoding, _, numbers = text.partition(",")
        encoding = _ALIASES.get(encoding.lower(), encoding.lower())
        rate, _, channels = numbers.partition(",")
        if encoding not in RAW_ENCODINGS:
            raise ValueError(f"{encoding!r} is no raw encoding; it is one of {', '.join(RAW_ENCODINGS)}")
        if not (rate.isdecimal() and channels.isdecimal()):
            raise ValueError(f"{text!r} is not ENCODING,RATE,CHANNELS, as in ulaw,8000,1")
        if not 1_000 <= int(rate) <= 1_000_000 or not 1 <= int(channels) <= 1024:
            raise ValueError(f"{text!r}: the rate is 1000 to 1000000 Hz, and there are 1 to 1024 channels")
        if encoding in ("vox", "gsm") and int(channels) != 1:
            raise ValueError(f"{text!r}: {encoding} has one channel")
        return cls(encoding, int(rate), int(channels))

    def __str__(self) -> str:
        return f"{self.encoding},{self.rate},{self.channels}"


def raw_formats(texts: Iterable[str]) -> dict[str, RawFormat]:
    """Return the format of each extension that texts name.

    Parameters
    ----------
    texts : iterable of str
        ``EXTENSION=ENCODING,RATE,CHANNELS``, or ``ENCODING,RATE,CHANNELS`` for those of `HEADERLESS` that no other
        names.

    Returns
    -------
    dict of str to RawFormat
        By extension, in lower case with the dot, sorted.

    Raises
    ------
    ValueError
        With what is wrong.

    Examples
    --------
    >>> {extension: str(form) for extension, form in raw_formats([".UL=ulaw,08000,1"]).items()}
    {'.ul': 'ulaw,8000,1'}
    """
    named: dict[str, RawFormat] = {}
    default: dict[str, RawFormat] = {}
    for text in texts:
        extension, equals, form = text.rpartition("=")
        if equals and not _EXTENSION.fullmatch(extension):
            raise ValueError(f"{extension!r} in {text!r} is no extension of a file name, such as .ul")
        extensions = {"." + extension.removeprefix(".").lower()} if equals else HEADERLESS
        formats = named if equals else default
        if formats.keys() & extensions:
            raise ValueError(f"{text!r} names {extension or 'the extensions without a header'} for the second time")
        formats |= dict.fromkeys(extensions, RawFormat.parse(form))
    return dict(sorted((default | named).items()))
