"""Decode any recording in bounded blocks from an open file object.

libsndfile (through soundfile) reads ordinary WAV, FLAC, MP3, Ogg and Opus fastest; FFmpeg (through PyAV) reads what it
cannot. A file is ordinary if a cheap look at its beginning and end says so; what is not is taken apart first. Both
decoders get file objects alone.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, NoReturn

import numpy as np
import soundfile

from emobeam.audio.errors import BrokenStreamError, DecodeError, error_text
from emobeam.audio.files import ErrorKeepingFile
from emobeam.audio.info import AudioInfo, Losses, Stream
from emobeam.audio.mixing import in_form
from emobeam.audio.raw import RawFormat
from emobeam.audio.sources import Request, streams

__all__ = ["EXTENSIONS", "AudioInfo", "DecodeError", "Decoder", "RawFormat", "open_audio"]

#: File name extensions of recordings, lower case.
EXTENSIONS = frozenset(
    {
        ".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf",
        ".w64", ".rf64", ".bwf", ".gsm", ".m4a", ".m4b", ".m4v", ".m4s", ".mp4", ".aac", ".webm", ".mka", ".mkv",
        ".mov", ".3gp", ".3g2", ".amr", ".awb", ".wma", ".wmv", ".asf", ".mp2", ".mpga", ".sph", ".spx", ".ogv", ".voc",
        ".wv", ".tta", ".ape", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".avi", ".flv", ".f4v", ".ac3", ".eac3",
        ".adts",
    }
)  # fmt: skip

#: Beyond any audio, full scale being 1, and safely below what overflows when squared and summed.
_MAX_RANGE = 1e9


class Decoder:
    """An open recording: its `info`, and its samples by `blocks`.

    Attributes
    ----------
    info : AudioInfo
        Its `header_duration_s` is final after the last block: files may be concatenated.
    losses : Losses
        What could not be decoded so far.
    broken : str or None
        After `blocks` ended early, the decoder's message; the blocks so far are good.
    """

    def __init__(self, first: Stream, others: Iterator[Stream], losses: Losses) -> None:
        self.info = first.info
        self.losses = losses
        self.broken: str | None = None
        self._first, self._others = first, others

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the samples as float32 arrays of shape (frames, channels), full scale at 1.

        Blocks have some 262144 frames at most, fewer beyond 8 channels. They end early, and `broken` is set, if the
        rest cannot be decoded. What follows at another rate or with other channels is brought to those of `info`.

        Raises
        ------
        DecodeError
            With code ``not_finite`` at the first NaN or infinite sample, ``out_of_range`` at one that is a billion
            times full scale, ``undecodable`` if not one block could be decoded.
        """
        position = 0
        blocks = self._all_blocks()
        while True:
            try:
                block = next(blocks, None)
            except (soundfile.LibsndfileError, BrokenStreamError) as error:
                if position == 0:
                    raise DecodeError(
                        "undecodable",
                        f"the header is readable but the sound is not: {error_text(error)}; copy the file again from "
                        "its source",
                    ) from error
                self.broken = error_text(error)
                return
            if block is None:
                return
            # NaN and infinity propagate to the extremes, which cost less than a test of each sample.
            if not float(block.max()) - float(block.min()) < _MAX_RANGE:
                self._raise_bad_sample(block, position)
            position += len(block)
            yield block

    def _all_blocks(self) -> Iterator[np.ndarray]:
        yield from self._first.blocks()
        for stream in self._following():
            promised = self.info.header_duration_s, stream.info.header_duration_s
            total = None if None in promised else sum(part for part in promised if part is not None)
            self.info = dataclasses.replace(self.info, header_duration_s=total)
            yield from in_form(self.info, stream)

    def _following(self) -> Iterator[Stream]:
        try:
            yield from self._others
        except DecodeError as error:
            raise BrokenStreamError(str(error)) from error

    def _raise_bad_sample(self, block: np.ndarray, position: int) -> NoReturn:
        bad = ~(np.abs(block) < _MAX_RANGE / 2).all(axis=1)
        index = int(np.flatnonzero(bad)[0])
        value, code = "NaN or infinite", "not_finite"
        if np.isfinite(block[index]).all():
            value, code = f"{float(np.abs(block[index]).max()):.1g} times full scale", "out_of_range"
        raise DecodeError(
            code,
            f"the sample at {(index + position) / self.info.sample_rate:.3f} s is {value}; write the file again "
            "from its source, or replace such samples",
        )


@contextlib.contextmanager
def open_audio(
    file: BinaryIO, *, name: str = "", raw: RawFormat | None = None, all_tracks: bool = False
) -> Iterator[Decoder]:
    """Open a recording for decoding from a readable, seekable binary file.

    Parameters
    ----------
    file : binary file object
        Only its ``read``, ``readinto``, ``seek`` and ``tell`` are used; it is not closed.
    name : str, optional
        The file's name. Only its extension counts, and only where nothing in the content says what it is.
    raw : RawFormat, optional
        The format of a file without a header. One that begins with a header is read by that.
    all_tracks : bool
        Whether several mono tracks of one rate in one container are the channels of the recording. Otherwise the
        default track is decoded, or the first that is not silent where that is.

    Raises
    ------
    DecodeError
        ``empty`` for a file of no bytes, ``unknown_format`` if neither decoder can read the content, ``headerless``
        if the name says that it has no header, and `raw` is not given, ``no_audio`` for a container without audio,
        ``odd_sample_rate`` for a rate that no recording has, ``truncated`` for a header without the audio that it
        promises.
    Exception
        What reading the file raises, now or during `Decoder.blocks`, is passed on unchanged.
    """
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise DecodeError("empty", "the file has no bytes; copy it again from its source")
    wrapped, losses = ErrorKeepingFile(file, size), Losses()
    request = Request(PurePosixPath(name).suffix.lower(), raw, all_tracks)
    with contextlib.closing(streams(wrapped, size, request, losses)) as parts:
        try:
            first = next(parts)
        except DecodeError:
            wrapped.check()
            raise
        wrapped.check()
        yield Decoder(first, parts, losses)
