"""``emobeam doctor``: check that all that scoring needs is installed and works."""

import argparse
import functools
import importlib.metadata
import io
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from emobeam import storage
from emobeam.audio.decode import EXTENSIONS, open_audio
from emobeam.cli.flags import output_of
from emobeam.dataset import transaction
from emobeam.pipelines.score import versions
from emobeam.scoring import load_model, score_recording
from emobeam.scoring.cpus import cpu_quota, usable_cpus

_PROBE = "doctor"


@dataclass(frozen=True)
class Check:
    """What a check came to.

    Attributes
    ----------
    name : str
    works : bool
    detail : str
    """

    name: str
    works: bool
    detail: str


def examine(arguments: argparse.Namespace) -> Iterator[Check]:
    """Check everything, also behind a check that failed."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("versions", lambda: ", ".join(f"{name} {version}" for name, version in versions().items())),
        ("system", lambda: f"{platform.system()} {platform.machine()}"),
        ("workers", _workers),
        ("soundfile", _soundfile),
        ("PyAV", _pyav),
        ("model", functools.partial(_model, arguments.model)),
    ]
    checks += [("input", functools.partial(_input, pattern)) for pattern in arguments.input or ()]
    output = output_of(arguments)
    if output:
        checks.append(("output", functools.partial(_output, output)))
    for name, check in checks:
        try:
            yield Check(name, True, check())
        except Exception as error:
            yield Check(name, False, str(error) or type(error).__name__)


def _workers() -> str:
    limit = cpu_quota()
    share = "" if limit is None else f", {limit:g} of which this container may use"
    return f"{usable_cpus()} by default; {os.cpu_count()} processors{share}"


def _soundfile() -> str:
    import soundfile

    sound = (0.1 * np.sin(np.arange(16_000) / 10)).astype(np.float32)
    read = []
    for kind, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)):
        file = io.BytesIO()
        soundfile.write(file, sound, 16_000, format=kind, subtype=subtype)
        file.seek(0)
        with open_audio(file) as decoder:
            frames = sum(len(block) for block in decoder.blocks())
        if not frames >= len(sound):
            raise RuntimeError(
                f"{kind} {subtype or ''} decodes to {frames} of {len(sound)} samples; reinstall soundfile"
            )
        read.append(subtype.lower() if kind == "OGG" and subtype else kind.lower())
    return f"{soundfile.__libsndfile_version__}: {', '.join(read)} written and read again"


def _pyav() -> str:
    import av
    from av.codec import codecs_available

    wanted = {"aac", "amrnb", "amrwb", "opus", "vorbis", "alac", "wmav2"}
    missing = sorted(wanted - set(codecs_available))
    version = importlib.metadata.version("av")
    if "aac" in missing:
        raise RuntimeError(f"{version} has no AAC, so m4a and mp4 cannot be read; reinstall av from its wheel")
    lacks = f"; it lacks {', '.join(missing)}" if missing else ""
    return f"{version}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}{lacks}"


def _model(source: str) -> str:
    import soundfile

    model = load_model(source)
    file = io.BytesIO()
    noise = np.random.default_rng(0).normal(scale=0.05, size=32_000)
    soundfile.write(file, noise, 16_000, format="WAV", subtype="PCM_16")
    row = score_recording(file.getvalue(), model).files[0]
    if row["status"] != "ok":
        raise RuntimeError(f"{model.contract.name} does not answer: {row['error_message']}")
    return f"{model.contract.name} {model.hash} answers; {len(model.contract.emotions)} emotions"


def _input(pattern: str) -> str:
    recordings, broken, first = 0, 0, None
    for listed in storage.list_input(pattern, EXTENSIONS):
        recordings += listed.kind == "recording"
        broken += listed.kind == "broken"
        if first is None and listed.kind == "recording":
            first = listed
        if recordings >= 1_000:
            break
    if first is None:
        raise RuntimeError(f"nothing to score at {pattern}")
    with storage.open_read(first.uri) as file:
        file.read(1)
    more = " or more" if recordings >= 1_000 else ""
    return f"{pattern}: {recordings:,}{more} recordings, {broken:,} names that cannot be reached; the first opens"


def _output(output: str) -> str:
    uri = storage.canonical(output)
    owner = storage.lock_owner(transaction.lock_of(uri))
    if owner is not None:
        return f"{output} is being written by {owner}"
    with storage.lock(transaction.lock_of(uri)):
        left = transaction.staged(uri)
        probe = transaction.place(uri, _PROBE, "probe")
        storage.write(probe, b"probe")
        content = storage.read(probe)
        storage.remove(probe)
    if content != b"probe":
        raise RuntimeError(f"{output} gives back something else than was written to it")
    recover = f"; {len(left)} dead runs wait for the next one to recover them" if left else ""
    return f"{output} can be locked, written and read{recover}"


def run(arguments: argparse.Namespace) -> int:
    """Run ``emobeam doctor`` and return its exit code: 1 where something is broken."""
    works = True
    for check in examine(arguments):
        works = works and check.works
        print(f"{'ok    ' if check.works else 'BROKEN'}  {check.name:10s}  {check.detail}", flush=True)
    if not works:
        print("emobeam doctor: see what is BROKEN above", file=sys.stderr)
    return 0 if works else 1
