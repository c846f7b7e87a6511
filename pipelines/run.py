"""What one run is: an immutable plan that every worker gets, and the places that follow from it."""

import dataclasses
import datetime
import json
from dataclasses import dataclass
from typing import Any, Literal

import storage
from schemas.settings import ScoreSettings

Table = Literal["files", "segments", "runs"]


@dataclass(frozen=True, kw_only=True)
class Run:
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

    @property
    def staging(self) -> str:
        """Uri under which everything lies until the commit."""
        return storage.join(self.output, "_staging", self.run_id)

    @property
    def staged_model(self) -> str:
        """Uri of the model's copy for the workers, which may run on machines that have no other."""
        return storage.join(self.staging, "model.onnx")

    @property
    def manifest(self) -> str:
        """Uri of the list of parts that are to be promoted."""
        return storage.join(self.staging, "manifest.json")

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
        return storage.join(self.output, table, f"run_date={self.run_date}", f"run_id={self.run_id}")

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
