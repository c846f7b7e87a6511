"""What one run is: an immutable plan that every worker gets, and the places that follow from it."""

import dataclasses
import datetime
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from emobeam import storage
from emobeam.dataset.layout import STAGING, partition
from emobeam.dataset.retries import RetryPolicy
from emobeam.dataset.run_record import RunOrigin
from emobeam.schemas.settings import ScoreSettings
from emobeam.schemas.tables import Table

#: The input that means a list on standard input.
STDIN = "-"

SameBy = Literal["mtime", "size", "hash"]


@dataclass(frozen=True)
class PartPolicy:
    """When a part is sealed: what a killed run may lose.

    Attributes
    ----------
    rows : int
        A part with so many rows of both tables is sealed.
    age_s : float
        So is one whose first result is so many seconds old.
    """

    rows: int = 50_000
    age_s: float = 60.0


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
        Patterns as given; `STDIN` among them means `names`.
    settings : ScoreSettings
    model, model_hash, model_contract : str
        Name, hash and contract (JSON) of the model; its bytes lie at `staged_model`.
    options, versions : str
        JSON, for the runs table.
    rescore : bool
        Score what is done already, too.
    retry_failed : bool
        Try all failures again.
    same_by : {"mtime", "size", "hash"}
        What says that a recording is the one that was scored, beside its uri: its size and its etag or modification
        time; its size alone; or, with ``hash``, its content where size alone is the same, for which the run records the
        hash of each recording that it scores.
    any_name : bool
        Take files in folders and globs whatever they are called; their content decides.
    root : str or None
        Uri of a folder or prefix below which all recordings are, and relative to which the tables name them.
    parts : PartPolicy
    names : tuple of str
        Uris from standard input. There may be millions: they are listed where the pipeline is made, and are neither
        staged nor in the workers' copies of the plan.
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
    retry_failed: bool = False
    same_by: SameBy = "mtime"
    any_name: bool = False
    root: str | None = None
    parts: PartPolicy = field(default_factory=PartPolicy)
    names: tuple[str, ...] = field(default=(), repr=False)

    def without_names(self) -> "RunPlan":
        """Return the plan as workers get it."""
        return dataclasses.replace(self, names=())

    def to_json(self) -> str:
        """Return the plan as it is staged."""
        values = dataclasses.asdict(self.without_names())
        del values["names"]
        return json.dumps(values | {"started_at": self.started_at.isoformat()})

    @classmethod
    def from_json(cls, text: bytes | str) -> "RunPlan":
        """Read a staged plan, which another version of emobeam may have written."""
        values = _fields_of(cls, json.loads(text))
        return cls(
            **values
            | {
                "started_at": datetime.datetime.fromisoformat(values["started_at"]),
                "inputs": tuple(values["inputs"]),
                "settings": ScoreSettings(**_fields_of(ScoreSettings, values["settings"])),
                "parts": PartPolicy(**_fields_of(PartPolicy, values.get("parts", {}))),
            }
        )

    @property
    def retries(self) -> RetryPolicy:
        """Which failures the run tries again."""
        return RetryPolicy(datetime.date.fromisoformat(self.run_date), force=self.retry_failed)

    @property
    def staging(self) -> str:
        """Uri under which everything lies until the commit."""
        return storage.join(self.output, STAGING, self.run_id)

    @property
    def uri(self) -> str:
        """Uri of this plan, staged before all else."""
        return storage.join(self.staging, "run.json")

    @property
    def staged_model(self) -> str:
        """Uri of the model's copy for the workers, which may run on machines that have no other."""
        return storage.join(self.staging, "model.onnx")

    @property
    def runs_object(self) -> str:
        """Uri of the object that, once there, makes the run committed."""
        return storage.join(self.output, partition("runs", self.run_date, self.run_id), "part-0.parquet")

    def staged_part(self, table: Table, part: str) -> str:
        """Uri of a part before the commit."""
        return storage.join(self.staging, table, part)

    @property
    def origin(self) -> RunOrigin:
        """The columns of the runs table that hold this plan."""
        return RunOrigin(
            started_at=self.started_at,
            inputs=self.inputs,
            model=self.model,
            model_hash=self.model_hash,
            model_contract=self.model_contract,
            settings=json.dumps(dataclasses.asdict(self.settings), sort_keys=True),
            settings_hash=self.settings.hash,
            options=self.options,
            versions=self.versions,
        )


def new_run_id(now: datetime.datetime, *, after: str = "") -> str:
    """Return the id of a run that starts now.

    Ids sort by time, and the newest attempt at a recording is that of the greatest: the id is greater than `after`
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


def _fields_of(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {each.name for each in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names}
