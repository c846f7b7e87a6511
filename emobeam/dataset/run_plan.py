"""What one run is: an immutable plan that every worker gets, and the places that follow from it."""

import dataclasses
import datetime
import json
import secrets
from dataclasses import dataclass
from typing import Any, Literal

from emobeam import storage
from emobeam.schemas.settings import ScoreSettings

Table = Literal["files", "segments", "runs"]

#: The tables of a part, in the order in which its objects appear: a row of the files table finds its segments there.
PAIR: tuple[Table, ...] = ("segments", "files")

#: Under an output; whatever lies there is no part of the tables.
STAGING = "_staging"

#: A part is sealed when it holds this many rows, or so many seconds after its first: what a killed run may lose.
PART_ROWS = 50_000
PART_AGE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Everything about a run that is known before it starts.

    Attributes
    ----------
    output : str
        Uri of the folder or bucket prefix of the tables.
    run_id : str
    run_date : str
        ``YYYY-MM-DD``.
    started_at : datetime.datetime
        In UTC.
    inputs : tuple of str
        Patterns as given.
    settings : ScoreSettings
    model, model_hash, model_contract : str
        Name, hash and contract (JSON) of the model; its bytes lie at `staged_model`.
    options, versions : str
        JSON, for the runs table.
    rescore : bool
        Take up what has an answer already, too.
    part_rows : int
    part_age_s : float
        When a part is sealed.
    """

    output: str
    run_id: str
    run_date: str
    started_at: datetime.datetime
    inputs: tuple[str, ...]
    settings: ScoreSettings
    model: str
    model_hash: str
    model_contract: str
    options: str
    versions: str
    rescore: bool = False
    part_rows: int = PART_ROWS
    part_age_s: float = PART_AGE_S

    def to_json(self) -> str:
        """Return the plan as it is staged."""
        return json.dumps(dataclasses.asdict(self) | {"started_at": self.started_at.isoformat()})

    @classmethod
    def from_json(cls, text: bytes | str) -> "RunPlan":
        """Read a staged plan, which another version of emobeam may have written."""
        values = _known(cls, json.loads(text))
        return cls(
            **values
            | {
                "started_at": datetime.datetime.fromisoformat(values["started_at"]),
                "inputs": tuple(values["inputs"]),
                "settings": ScoreSettings(**_known(ScoreSettings, values["settings"])),
            }
        )

    @property
    def staging(self) -> str:
        """Uri under which everything lies until the commit."""
        return storage.join(self.output, STAGING, self.run_id)

    @property
    def plan(self) -> str:
        """Uri of this plan, staged before all else."""
        return storage.join(self.staging, "run.json")

    @property
    def staged_model(self) -> str:
        """Uri of the model's copy for the workers, which may run on machines that have no other."""
        return storage.join(self.staging, "model.onnx")

    @property
    def runs_object(self) -> str:
        """Uri of the object that, once there, makes the run committed."""
        return storage.join(self.table("runs"), "part-0.parquet")

    def staged_part(self, table: Table, part: str) -> str:
        """Uri of a part before the commit."""
        return storage.join(self.staging, table, part)

    def part(self, table: Table, part: str) -> str:
        """Uri of a part after the commit."""
        return storage.join(self.table(table), part)

    def table(self, table: Table) -> str:
        """Uri of this run's partition of a table."""
        return storage.join(self.output, partition(table, self.run_date, self.run_id))

    def row(self) -> dict[str, Any]:
        """Return the columns of the runs table that this plan tells."""
        return {
            "started_at": self.started_at,
            "inputs": list(self.inputs),
            "settings": json.dumps(dataclasses.asdict(self.settings), sort_keys=True),
            "settings_hash": self.settings.hash,
            "model": self.model,
            "model_hash": self.model_hash,
            "model_contract": self.model_contract,
            "options": self.options,
            "versions": self.versions,
        }


def partition(table: Table, run_date: str, run_id: str) -> str:
    """Return the place of a run's rows of a table, under the output."""
    return f"{table}/run_date={run_date}/run_id={run_id}"


def new_run_id(now: datetime.datetime, *, after: str = "") -> str:
    """Return the id of a run that starts now.

    Ids sort by time, and the newest answer of a recording is that of the greatest: the id is greater than `after`
    even where clocks differ or were set back.

    Parameters
    ----------
    now : datetime.datetime
        In UTC.
    after : str
        The greatest id there is, if there is one.
    """
    stamp = _stamp(now)
    newest = after.partition("-")[0]
    if newest and stamp <= newest:
        # The first runs counted in whole seconds, and "Z" sorts behind ".".
        step = datetime.timedelta(microseconds=1) if "." in newest else datetime.timedelta(seconds=1)
        stamp = _stamp(datetime.datetime.fromisoformat(newest) + step)
    return f"{stamp}-{secrets.token_hex(4)}"


def _stamp(time: datetime.datetime) -> str:
    return f"{time:%Y%m%dT%H%M%S.%f}Z"


def _known(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names}
