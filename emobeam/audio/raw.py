"""Recordings without a header: the caller names their format."""

from emobeam.audio.errors import DecodeError
from emobeam.schemas.raw import HEADERLESS, RawFormat

__all__ = ["ENCODINGS", "HEADERLESS", "RawFormat", "headerless_error", "is_raw_gsm"]

#: By each of `emobeam.schemas.raw.RAW_ENCODINGS`, libsndfile's name and its byte order.
ENCODINGS = {
    "ulaw": ("ULAW", None),
    "alaw": ("ALAW", None),
    "s16le": ("PCM_16", "LITTLE"),
    "s16be": ("PCM_16", "BIG"),
    "u8": ("PCM_U8", None),
    "vox": ("VOX_ADPCM", None),
    "gsm": ("GSM610", None),
}

_GSM_FRAME = 33


def headerless_error(extension: str) -> DecodeError:
    """Return the error of a recording whose format nothing says."""
    return DecodeError(
        "headerless",
        f"a {extension} file without a header, whose coding, rate and channels nothing in it says; name them with "
        "--raw ENCODING,RATE,CHANNELS, as in --raw ulaw,8000,1, or for this ending alone --raw "
        f"{extension}=ulaw,8000,1",
    )


def is_raw_gsm(head: bytes) -> bool:
    """Return whether bytes are frames of GSM 06.10: 33 bytes each, which begin with the bits 1101."""
    starts = head[: _GSM_FRAME * 8 : _GSM_FRAME]
    return len(head) >= _GSM_FRAME and all(byte >> 4 == 0xD for byte in starts)
