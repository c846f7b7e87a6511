"""How far a run is: counts beside the tables, for people who watch; no part of the commit.

A run on one machine leaves them every few seconds as ``_staging/<run_id>/progress.json``, and removes that object when
its workers have ended. Where a run was killed, the object stays until the next run discards or recovers what is staged.
"""

import dataclasses
import datetime
import json
from dataclasses import dataclass

from emobeam import storage
from emobeam.dataset import transaction
from emobeam.storage import StorageError


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """Counts of a run at one moment.

    Attributes
    ----------
    written_at : datetime.datetime
        That moment, in UTC.
    elapsed_s : float
        Since the run started.
    scoring_s : float
        Since its listing was complete; 0 before.
    workers : int
        That have started to score.
    files, files_total : int
        Recordings scored, and to be scored; 0 until the listing is complete.
    failed : int
        Of those scored.
    size_bytes, total_bytes : int
        Read of the recordings, also of those in hand, and their size as listed.
    audio_duration_s : float
        Seconds of sound decoded.
    """

    written_at: datetime.datetime
    elapsed_s: float
    scoring_s: float = 0.0
    workers: int = 0
    files: int = 0
    files_total: int = 0
    failed: int = 0
    size_bytes: int = 0
    total_bytes: int = 0
    audio_duration_s: float = 0.0

    @property
    def fraction(self) -> float:
        """How much is done, from 0 to 1: of the bytes, or of the files where no size is known."""
        if self.files and self.files == self.files_total:
            return 1.0
        if self.total_bytes:
            return min(1.0, self.size_bytes / self.total_bytes)
        return self.files / self.files_total if self.files_total else 0.0

    @property
    def files_per_s(self) -> float:
        """Recordings scored in a second."""
        return self.files / self.scoring_s if self.scoring_s else 0.0

    @property
    def rtfx(self) -> float:
        """Seconds of sound decoded in a second."""
        return self.audio_duration_s / self.scoring_s if self.scoring_s else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Seconds to the end at the mean rate so far; None before anything is read."""
        return self.scoring_s * (1 / self.fraction - 1) if self.fraction and self.scoring_s else None

    def to_json(self) -> str:
        """Return the counts as they are left for others."""
        return json.dumps(dataclasses.asdict(self) | {"written_at": self.written_at.isoformat()})

    @classmethod
    def from_json(cls, text: bytes | str) -> "RunProgress":
        """Read what `to_json` returned, perhaps in another version of emobeam.

        Raises
        ------
        ValueError
            If it is something else.
        """
        values = json.loads(text)
        names = {each.name for each in dataclasses.fields(cls)}
        if not isinstance(values, dict) or not {"written_at", "elapsed_s"} <= set(values):
            raise ValueError("these are no counts of a run")
        known = {name: value for name, value in values.items() if name in names}
        return cls(**known | {"written_at": datetime.datetime.fromisoformat(values["written_at"])})


def write(output: str, run_id: str, progress: RunProgress) -> None:
    """Leave counts for others. Raises as `storage.write`."""
    storage.write(_place(output, run_id), progress.to_json().encode())


def remove(output: str, run_id: str) -> None:
    """Remove them. Raises as `storage.remove`."""
    storage.remove(_place(output, run_id))


def read(output: str, run_id: str) -> RunProgress | None:
    """Read the counts that a run left; None where there are none.

    Raises
    ------
    storage.StorageError
        If the output cannot be read.
    """
    try:
        return RunProgress.from_json(storage.read(_place(output, run_id)))
    except ValueError:
        return None
    except StorageError as error:
        if error.code == "not_found":
            return None
        raise


def _place(output: str, run_id: str) -> str:
    return transaction.place(output, run_id, "progress.json")
