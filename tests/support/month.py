"""A month of nights over an archive that grows, changes and loses recordings; run as a program, or by a test.

usage: month.py FOLDER [--archive URI] [--output URI] [--outage COMMAND] [--days N]

Each night the archive has changed, and `emobeam score` runs as its schedule would run it. One night is killed
(SIGKILL) while it scores, and run again. On another the archive is missing at the start and back for the retry. On
another it disappears after the listing. Some nights end with `emobeam compact`, one with `emobeam forget`. The program
prints the runs table at the end of the month.

Archive and output are folders in FOLDER unless other uris are given, of buckets too. COMMAND is called with ``down``
to remove the archive and with ``up`` to restore it. Without COMMAND an empty folder replaces the archive's folder.
"""

import argparse
import contextlib
import dataclasses
import datetime
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - the path above comes first
import soundfile  # noqa: E402

from emobeam import storage  # noqa: E402

FIRST = datetime.date(2026, 11, 1)

#: Events of the nights, by day of the month; all other nights only score.
KILLED, AWAY_AT_FIRST, AWAY_WHEN_LISTED, NOTHING_NEW, BAD_UPLOAD, FORGET = 9, 14, 17, 12, 20, 24
COMPACT = (7, 21)

_ENDINGS = (("wav", "WAV", "PCM_16"), ("flac", "FLAC", "PCM_16"), ("ogg", "OGG", "VORBIS"), ("mp3", "MP3", None))


@dataclasses.dataclass(frozen=True)
class Month:
    """The places of a month.

    Attributes
    ----------
    archive, output : str
        Uris.
    metrics : Path
        The file of ``--metrics-file``.
    outage : callable
        Called with ``down`` or ``up``.
    """

    archive: str
    output: str
    metrics: Path
    outage: Callable[[str], None]


class Archive:
    """The recordings: short slices of the sample clips, in several formats.

    Attributes
    ----------
    names : list of str
        Present ones.
    lost : list of str
        Removed ones.
    sizes : list of int
        Number of recordings on each night.
    forgotten : str
        The forgotten one, which is present.
    """

    def __init__(self, uri: str, seed: int = 0) -> None:
        self._uri, self._rng = uri, random.Random(seed)
        clips = [
            path for path in sorted((ROOT / "samples").glob("*")) if path.suffix in {".wav", ".flac", ".ogg", ".mp3"}
        ]
        self._clips = [soundfile.read(path, dtype="float32", always_2d=True) for path in clips]
        self._made = 0
        self.names: list[str] = []
        self.lost: list[str] = []
        self.sizes: list[int] = []
        self.forgotten = ""

    def uri(self, name: str) -> str:
        """Return a recording's uri."""
        return storage.join(self._uri, name)

    def add(self, count: int) -> None:
        """Add new recordings."""
        for _ in range(count):
            ending = self._rng.choice(_ENDINGS)[0]
            name = f"{self._rng.choice('abc')}/{self._made:03d}.{ending}"
            self._made += 1
            self._write(name)
            self.names.append(name)

    def change(self, count: int) -> None:
        """Replace some by other recordings."""
        for name in self._rng.sample(self.names, count):
            self._write(name)

    def lose(self, count: int) -> None:
        """Remove some."""
        for name in self._rng.sample(self.names, count):
            storage.remove(self.uri(name))
            self.names.remove(name)
            self.lost.append(name)

    def spoil(self, count: int) -> list[str]:
        """Add files without sound under names of recordings."""
        names = [f"bad/{index}.wav" for index in range(count)]
        for name in names:
            storage.write(self.uri(name), f"no sound {name}".encode())
        self.names += names
        return names

    def mend(self, names: Sequence[str]) -> None:
        """Replace files without sound by recordings."""
        for name in names:
            self._write(name)

    def _write(self, name: str) -> None:
        sound, rate = self._rng.choice(self._clips)
        frames = round(self._rng.uniform(0.6, 2.5) * rate)
        start = self._rng.randrange(max(1, len(sound) - frames))
        _, kind, subtype = next(each for each in _ENDINGS if each[0] == name.rpartition(".")[2])
        data = io.BytesIO()
        soundfile.write(data, np.asarray(sound[start : start + frames]), rate, format=kind, subtype=subtype)
        storage.write(self.uri(name), data.getvalue())


def folder_outage(uri: str, what: str) -> None:
    """Replace a folder by an empty one, as when a mount is lost, or restore it."""
    path = Path(storage.path_of(uri))
    away = path.with_name(path.name + " away")
    if what == "down":
        path.rename(away)
        path.mkdir()
    else:
        path.rmdir()
        away.rename(path)


def night(month: Month, day: int, hook: str = "") -> int:
    """Run the command as the schedule does; return its exit code."""
    date = FIRST + datetime.timedelta(days=day - 1)
    return _command(
        "score", "--input", month.archive, "--output", month.output, "--run-date", date.isoformat(),
        "--metrics-file", str(month.metrics), "--direct_num_workers", "2", hook=hook,
    )  # fmt: skip


def _command(*argv: str, hook: str = "") -> int:
    program = [sys.executable, str(Path(__file__).resolve()), hook] if hook else [sys.executable, "-m", "emobeam"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*program, *argv], cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    if done.returncode not in (0, 1, 3, -signal.SIGKILL):
        raise SystemExit(f"exit code {done.returncode}: {done.stderr}")
    return done.returncode


def hooked(hook: str) -> None:
    """Run the command with an event; pass the command line on to it."""
    from emobeam.cli import main as command
    from emobeam.cli import score
    from emobeam.cli.process import run_as_process
    from emobeam.dataset.run_plan import PartPolicy
    from emobeam.pipelines import local_run

    class Progress(local_run.Progress):
        def count(self, *, failed: bool) -> None:
            super().count(failed=failed)
            if hook == "dies" and self.done == self.total // 2:
                os.kill(os.getpid(), signal.SIGKILL)

        def expect(self, total: int, size_bytes: int = 0) -> None:
            super().expect(total, size_bytes)
            if hook.startswith("outage "):
                subprocess.run([*json.loads(hook.removeprefix("outage ")), "down"], check=True)

    score_options = score.score_options

    def with_small_parts(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> Any:
        return dataclasses.replace(score_options(arguments, beam_flags), parts=PartPolicy(rows=8))

    local_run.Progress = Progress  # type: ignore[misc]
    score.score_options = with_small_parts
    run_as_process(command.main)


def live(month: Month, archive: Archive, days: int = 30, *, outage_command: Sequence[str]) -> dict[int, list[int]]:
    """Run the month; return the exit codes of each night, one for each try and command."""
    codes: dict[int, list[int]] = {}
    bad: list[str] = []
    for day in range(1, days + 1):
        if day == 1:
            archive.add(16)
        elif day != NOTHING_NEW:
            archive.lose(day % 3 == 0)
            archive.change(1 + day % 2)
            archive.add(2 + day % 3)
        if day == KILLED:
            archive.add(24)
        if day == BAD_UPLOAD:
            bad = archive.spoil(6)
        if day == BAD_UPLOAD + 2:
            archive.mend(bad[:4])
        codes[day] = _tries(month, day, outage_command)
        archive.sizes.append(len(archive.names))
        if day in COMPACT:
            codes[day].append(_command("compact", "--output", month.output))
        if day == FORGET:
            archive.forgotten = archive.names[0]
            codes[day].append(_command("forget", archive.uri(archive.forgotten), "--output", month.output))
    return codes


def _tries(month: Month, day: int, outage_command: Sequence[str]) -> list[int]:
    if day == KILLED:
        return [night(month, day, "dies"), night(month, day)]
    if day == AWAY_AT_FIRST:
        month.outage("down")
        first = night(month, day)
        month.outage("up")
        return [first, night(month, day)]
    if day == AWAY_WHEN_LISTED:
        only = night(month, day, f"outage {json.dumps(list(outage_command))}")
        month.outage("up")
        return [only]
    return [night(month, day)]


def runs(output: str) -> list[dict[str, Any]]:
    """Return the rows of the runs table, in order of time, with their dates."""
    from emobeam.dataset.layout import committed_runs

    return [
        {"run_date": run.run_date, "run_id": run.run_id, **run.record().columns()} for run in committed_runs(output)
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return runs as a table in Markdown."""
    names = ["listed", "skipped", "forgotten", "processed", "ok", "silent", "too_short", "failed"]
    lines = [
        "| night | outcome | " + " | ".join(names).replace("_", " ") + " | sound, s | wall, s |",
        "|---|---|" + "--:|" * (len(names) + 2),
    ]
    for row in rows:
        counts = " | ".join(str(row[f"files_{name}"]) for name in names)
        lines.append(
            f"| {row['run_date']} | {row['outcome']} | {counts} "
            f"| {row['audio_duration_s']:.0f} | {row['wall_time_s']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run a month and print its runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--archive")
    parser.add_argument("--output")
    parser.add_argument("--outage", metavar="COMMAND", help="called with down and up")
    parser.add_argument("--days", type=int, default=30)
    arguments = parser.parse_args()
    month, command = month_in(arguments.folder, arguments.archive, arguments.output, arguments.outage)
    codes = live(month, Archive(month.archive), arguments.days, outage_command=command)
    print(table(runs(month.output)))
    print("\nexit codes:", ", ".join(f"{day}: {each}" for day, each in codes.items() if each != [0]))
    with contextlib.suppress(FileNotFoundError):
        print("\n" + "".join(line for line in month.metrics.open() if line.startswith("emobeam_runs")))


def month_in(
    folder: Path, archive: str | None = None, output: str | None = None, outage: str | None = None
) -> tuple[Month, list[str]]:
    """Return a month in a folder or at other uris, and the command of its outages."""
    folder.mkdir(parents=True, exist_ok=True)
    place = storage.canonical(archive or folder / "archive")
    command = [outage] if outage else [sys.executable, str(Path(__file__).resolve()), "outage", place]
    month = Month(
        archive=place,
        output=storage.canonical(output or folder / "scores"),
        metrics=folder / "emobeam.prom",
        outage=lambda what: subprocess.run([*command, what], check=True) and None,
    )
    return month, command


if __name__ == "__main__":
    if sys.argv[1] == "outage":
        folder_outage(*sys.argv[2:])
    elif sys.argv[1] == "dies" or sys.argv[1].startswith("outage "):
        hooked(sys.argv.pop(1))
    else:
        main()
