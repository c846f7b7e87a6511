"""Recordings without a header: the caller names their coding."""

from dataclasses import dataclass

from emobeam.audio.errors import DecodeError

#: Encodings: libsndfile's name for each, and its byte order.
ENCODINGS = {
    "ulaw": ("ULAW", None),
    "alaw": ("ALAW", None),
    "s16le": ("PCM_16", "LITTLE"),
    "s16be": ("PCM_16", "BIG"),
    "u8": ("PCM_U8", None),
    "vox": ("VOX_ADPCM", None),
    "gsm": ("GSM610", None),
}

#: File name extensions of recordings without a header.
HEADERLESS = frozenset({".ul", ".ulaw", ".al", ".alaw", ".sln", ".vox", ".raw", ".pcm"})

_GSM_FRAME = 33


@dataclass(frozen=True)
class RawFormat:
    """The format of a recording without a header.

    Attributes
    ----------
    encoding : str
        One of `ENCODINGS`: vox is Dialogic's ADPCM, gsm is GSM 06.10.
    rate : int
        In Hz.
    channels : int
    """

    encoding: str
    rate: int
    channels: int = 1

    @classmethod
    def parse(cls, text: str) -> "RawFormat":
        """Return the format that ``ENCODING,RATE,CHANNELS`` says.

        Raises
        ------
        ValueError
            With what is wrong.
        """
        encoding, _, numbers = text.partition(",")
        rate, _, channels = numbers.partition(",")
        if encoding not in ENCODINGS:
            raise ValueError(f"{encoding!r} is no raw encoding; it is one of {', '.join(ENCODINGS)}")
        if not (rate.isdecimal() and channels.isdecimal()):
            raise ValueError(f"{text!r} is not ENCODING,RATE,CHANNELS, as in ulaw,8000,1")
        if not 1_000 <= int(rate) <= 1_000_000 or not 1 <= int(channels) <= 1024:
            raise ValueError(f"{text!r}: the rate is 1000 to 1000000 Hz, and there are 1 to 1024 channels")
        if encoding in ("vox", "gsm") and int(channels) != 1:
            raise ValueError(f"{text!r}: {encoding} has one channel")
        return cls(encoding, int(rate), int(channels))


def headerless_error(extension: str) -> DecodeError:
    """Return the error of a recording whose format nothing says."""
    return DecodeError(
        "headerless",
        f"a {extension} file without a header, whose coding, rate and channels nothing in it says; name them with "
        "--raw ENCODING,RATE,CHANNELS, as in --raw ulaw,8000,1",
    )


def is_raw_gsm(head: bytes) -> bool:
    """Return whether bytes are frames of GSM 06.10: 33 bytes each, which begin with the bits 1101."""
    starts = head[: _GSM_FRAME * 8 : _GSM_FRAME]
    return len(head) >= _GSM_FRAME and all(byte >> 4 == 0xD for byte in starts)
