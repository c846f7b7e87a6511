"""Score the recordings every night: a DAG for Airflow 3. Copy it into Airflow's folder of DAGs.

emobeam needs its own environment, because it and Airflow need different versions of the same libraries. The task calls
its command. Settings are environment variables of the workers: EMOBEAM (the command), EMOBEAM_INPUT, EMOBEAM_OUTPUT.
"""

import datetime
import json
import logging
import os
import subprocess
import zoneinfo
from typing import Any

import pendulum
from airflow.sdk import Context, dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.timetables.trigger import CronTriggerTimetable

ZONE = "Europe/Berlin"


class NotDone(AirflowException):
    """The night could not be done. It is retried, because the cause may pass."""


class TooManyFailures(AirflowFailException):
    """All is committed, and more recordings failed than allowed. It is not retried: they would fail again."""


class WrongUsage(AirflowFailException):
    """The flags are wrong. It is not retried."""


def alert(context: Context) -> None:
    """Report that the last try of the night failed. Replace the log by a mail, a pager or a webhook."""
    error = context.get("exception")
    severity = logging.WARNING if isinstance(error, TooManyFailures) else logging.ERROR
    logging.getLogger("emobeam").log(severity, "%s: %s", type(error).__name__, error)


@dag(
    schedule=CronTriggerTimetable("30 1 * * *", timezone=ZONE),
    start_date=pendulum.datetime(2026, 1, 1, tz=ZONE),
    catchup=False,  # a missed night needs no run: the next one scores all new recordings
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": datetime.timedelta(minutes=10), "on_failure_callback": alert},
)
def emobeam_night() -> None:
    """Score the recordings of the night."""

    @task
    def score(logical_date: datetime.datetime | None = None) -> dict[str, Any]:
        # The time at which the night was due, the same in every try. A run triggered by hand without a date has none.
        due = logical_date or datetime.datetime.now(datetime.UTC)
        night = due.astimezone(zoneinfo.ZoneInfo(ZONE)).date()
        command = [
            os.environ.get("EMOBEAM", "/opt/emobeam/bin/emobeam"), "score",
            "--input", os.environ.get("EMOBEAM_INPUT", "/data/calls"),
            "--output", os.environ.get("EMOBEAM_OUTPUT", "/data/scores"),
            "--run-date", night.isoformat(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        raised = {0: None, 2: WrongUsage, 3: TooManyFailures}.get(done.returncode, NotDone)
        if raised is not None:
            # The message is the last line, behind one a minute on the progress.
            raise raised(f"exit code {done.returncode}: {''.join(done.stderr.strip().splitlines()[-1:])}")
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    score()


emobeam_night()
