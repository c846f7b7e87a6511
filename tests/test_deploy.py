"""The examples in deploy/: each is run, or judged by the tool that it is for, where that is here."""

import datetime
import json
import os
import re
import shlex
import shutil
import subprocess
import zoneinfo
from pathlib import Path

import pytest
import yaml

from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"
TOOLS = Path(os.environ.get("EMOBEAM_DEPLOY", Path.home() / ".cache" / "emobeam-deploy"))


def tool(name, *places):
    path = shutil.which(name) or next((str(place) for place in places if place.exists()), None)
    return path or pytest.skip(f"{name} is not here; deploy/tools.sh or apt-get installs it")


@pytest.fixture
def fakes(tmp_path):
    """Commands that write down how they were called; emobeam ends with the given codes, one after another."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "emobeam").write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/emobeam.calls\n'
        f"code=$(head -n 1 {tmp_path}/codes); sed -i 1d {tmp_path}/codes\n"
        '[ "$code" = 1 ] || echo \'{"files_ok": 7}\'\n'
        '[ "$code" = 0 ] || echo "emobeam score: what was wrong" >&2\n'
        'exit "$code"\n'
    )
    (folder / "logger").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/logger.calls\n')
    for path in folder.iterdir():
        path.chmod(0o755)

    def run(command, *codes, **environment):
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        for path in tmp_path.glob("*.calls"):
            path.unlink()
        path = f"{folder}:{os.environ['PATH']}"
        done = subprocess.run(
            command, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True, check=False
        )
        calls = [(tmp_path / f"{name}.calls") for name in ("emobeam", "logger")]
        return done, *(path.read_text().splitlines() if path.exists() else [] for path in calls)

    return run


def flags_of(call):
    """The flags of `emobeam score`, parsed by the command itself."""
    from emobeam.cli import main as command

    return command.make_parser().parse_args(shlex.split(call))


# cron


@pytest.mark.parametrize(
    ("codes", "severity", "code"),
    [
        ((0,), "info", 0),
        ((1, 1, 0), "info", 0),
        ((1, 3), "warning", 3),
        ((3,), "warning", 3),
        ((2,), "err", 2),
        ((1, 1, 1), "err", 1),
    ],
)
def test_the_script_for_cron_tries_again_and_treats_3_unlike_1(fakes, codes, severity, code):
    script = [str(DEPLOY / "cron" / "emobeam-night"), "/data/in a folder", "/out", "--channels", "split"]
    before = datetime.date.today()
    done, scored, logged = fakes(script, *codes, EMOBEAM_WAITS="0 0 0")
    assert done.returncode == code
    assert len(scored) == len(codes)
    assert len(set(scored)) == 1, "every try is for the same night"
    assert scored[0].startswith("score --input /data/in a folder --output /out --run-date ")
    assert str(before) in scored[0] or str(datetime.date.today()) in scored[0]
    assert scored[0].endswith("--channels split")
    (line,) = logged
    assert f"-p user.{severity}" in line
    assert done.stderr == ""
    assert ("what was wrong" in done.stdout) == bool(code)
    assert bool(done.stdout) == bool(code), "cron mails what is printed"


def test_the_line_for_cron_is_one(fakes):
    lines = (DEPLOY / "cron" / "emobeam.cron").read_text().splitlines()
    (line,) = [each for each in lines if re.match(r"[\d*]", each)]
    *when, user, command = line.split(maxsplit=6)
    assert when == ["30", "1", "*", "*", "*"]
    assert user == "emobeam"
    assert "%" not in command, "cron would take it for a line's end"
    _, (call,), _ = fakes(["sh", "-c", command.replace("emobeam-night", str(DEPLOY / "cron" / "emobeam-night"), 1)], 0)
    assert flags_of(call).metrics_file == "/var/lib/prometheus/node-exporter/emobeam.prom"


# systemd


def setting(unit, name):
    (value,) = re.findall(rf"^{name}=(.*)$", (DEPLOY / "systemd" / unit).read_text(), re.MULTILINE)
    return value


def test_systemd_finds_nothing_wrong_with_its_units():
    analyze = tool("systemd-analyze")
    units = sorted(str(path) for path in (DEPLOY / "systemd").glob("emobeam-*"))
    assert len(units) == 3
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_scores_the_night_that_began_at_half_past_one(fakes, tmp_path):
    environment = dict(
        line.split("=", 1) for line in (DEPLOY / "systemd" / "night.env").read_text().splitlines() if line[0] != "#"
    )
    command = setting("emobeam-night.service", "ExecStart").replace("%%", "%").replace("/opt/emobeam/bin/", "")
    # As if it were now: some time before the night begins again, and after.
    for now, night in (("2026-11-22 01:30", "2026-11-22"), ("2026-11-23 01:15", "2026-11-22")):
        date = tmp_path / "bin" / "date"
        ago = datetime.datetime.fromisoformat(now) - datetime.timedelta(minutes=90)
        date.write_text(f'#!/bin/sh\n[ "$2" = "90 minutes ago" ] && exec {shutil.which("date")} --date "{ago}" "$3"\n')
        date.chmod(0o755)
        _, (call,), _ = fakes(shlex.split(command), 0, **environment)
        flags = flags_of(call)
        assert str(flags.run_date) == night
        assert (flags.input, flags.output) == (["/data/calls"], "/data/scores")
        assert flags.metrics_file.endswith(".prom")
    assert setting("emobeam-night.service", "RestartPreventExitStatus").split() == ["2", "3"]


@pytest.mark.parametrize(("status", "severity"), [("3", "warning"), ("1", "err"), ("KILL", "err")])
def test_the_unit_that_reports_a_failed_night_treats_3_unlike_1(fakes, status, severity):
    command = shlex.split(setting("emobeam-night-failed.service", "ExecStart"))
    environment = {"MONITOR_EXIT_STATUS": status, "MONITOR_UNIT": "u", "MONITOR_SERVICE_RESULT": "exit-code"}
    _, _, (line,) = fakes(command, **environment)
    assert f"-p user.{severity}" in line


# Airflow

AIRFLOW = TOOLS / "airflow" / "bin"

_LOAD = """
from airflow.dag_processing.dagbag import DagBag
import datetime, json, os
bag = DagBag()
assert not bag.import_errors, bag.import_errors
(dag,) = bag.dags.values()
(task,) = dag.tasks
report = {"zone": str(dag.timezone), "max_active_runs": dag.max_active_runs, "catchup": dag.catchup}
report |= {"retries": task.retries, "runs": []}
task.retry_delay = datetime.timedelta(0)
for day, codes in enumerate(json.loads(os.environ["NIGHTS"]), start=1):
    open(os.environ["CODES"], "w").write("".join(f"{code}\\n" for code in codes))
    due = datetime.datetime(2026, 11, day, 0, 30, tzinfo=datetime.UTC)
    (instance,) = dag.test(logical_date=due).get_task_instances()
    report["runs"].append([str(instance.state), instance.try_number])
print("REPORT", json.dumps(report))
"""


@pytest.fixture
def airflow(tmp_path):
    """Airflow's Python, on an empty database, with the folder of the example for its DAGs."""
    if not (AIRFLOW / "airflow").exists():
        pytest.skip("no Airflow here: deploy/tools.sh airflow installs one")

    def run(program, *arguments, **environment):
        done = subprocess.run(
            [str(AIRFLOW / program), *arguments], capture_output=True, text=True, check=False, cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path / "airflow"),
                 "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                 "AIRFLOW__CORE__DAGS_FOLDER": str(DEPLOY / "airflow"), "NIGHTS": "[]", **environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_airflow_loads_its_dag(airflow):
    (report,) = re.findall("^REPORT (.*)$", airflow("python", "-c", _LOAD), re.MULTILINE)
    assert json.loads(report) == {
        "zone": "Europe/Berlin", "max_active_runs": 1, "catchup": False, "retries": 3, "runs": [],
    }  # fmt: skip


@pytest.mark.nights
def test_airflow_tries_again_after_1_and_not_after_3(airflow, fakes, tmp_path):
    fakes(["true"])
    airflow("airflow", "db", "migrate")
    airflow("airflow", "dags", "reserialize")
    nights = [[0], [3], [1, 1, 0], [2], [1, 1, 1, 1]]
    said = airflow(
        "python", "-c", _LOAD, NIGHTS=json.dumps(nights), CODES=str(tmp_path / "codes"),
        EMOBEAM=str(tmp_path / "bin" / "emobeam"), EMOBEAM_INPUT="/in", EMOBEAM_OUTPUT="/out",
    )  # fmt: skip
    (report,) = re.findall("^REPORT (.*)$", said, re.MULTILINE)
    assert json.loads(report)["runs"] == [["success", 1], ["failed", 1], ["success", 3], ["failed", 1], ["failed", 4]]
    calls = (tmp_path / "emobeam.calls").read_text().splitlines()
    # Half past midnight in UTC is half past one there: the night's date is the zone's.
    wanted = [f"score --input /in --output /out --run-date 2026-11-0{day}" for day in (1, 2, 3, 3, 3, 4, 5, 5, 5, 5)]
    assert calls == wanted
    alerts = re.findall(r"\[(\w+) *\] (\w+): exit code (\d)", re.sub("\x1b\\[[0-9;]*m", "", said))
    assert alerts == [("warning", "TooManyFailures", "3"), ("error", "WrongUsage", "2"), ("error", "NotDone", "1")]


# Kubernetes


@pytest.fixture(scope="module")
def cronjob():
    return yaml.safe_load((DEPLOY / "kubernetes" / "cronjob.yaml").read_text())


@pytest.mark.parametrize("version", ["1.31", "1.34"])
def test_the_cronjob_fits_kubernetes_own_schema(cronjob, version):
    import kubernetes_validate

    kubernetes_validate.validate(cronjob, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**cronjob, "spec": {**cronjob["spec"], "timezone": "UTC"}}, version, strict=True)


def test_the_cronjob_scores_the_night_that_was_due(cronjob, fakes):
    job = cronjob["spec"]["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    zone = cronjob["spec"]["timeZone"]
    assert environment["TZ"] == zone
    for hour in (0, 1, 23):  # at the first of these it is the day before in UTC
        due = datetime.datetime(2026, 11, 22, hour, 30, tzinfo=zoneinfo.ZoneInfo(zone))
        minute = int(due.timestamp()) // 60
        name = f"{cronjob['metadata']['name']}-{minute}"
        _, (call,), _ = fakes([*container["command"], *container["args"]], 0, **environment, JOB_NAME=name)
        assert str(flags_of(call).run_date) == "2026-11-22"
    assert cronjob["spec"]["concurrencyPolicy"] == "Forbid"
    codes = [rule["onExitCodes"]["values"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert codes == [[2, 3]]


# Prometheus


def test_the_alerts_fire_when_they_should():
    rules = DEPLOY / "prometheus" / "emobeam.rules.yaml"
    groups = yaml.safe_load(rules.read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    tests = yaml.safe_load(rules.with_name("emobeam.rules.test.yaml").read_text())["tests"]
    assert alerts == {one["alertname"] for test in tests for one in test["alert_rule_test"] if one.get("exp_alerts")}
    promtool = tool("promtool", TOOLS / "bin" / "promtool")
    for command in (["check", "rules", rules.name], ["test", "rules", "emobeam.rules.test.yaml"]):
        done = subprocess.run([promtool, *command], cwd=rules.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_ask_for_metrics_that_are_written():
    from emobeam.cli.openmetrics import RunOutcome, exposition

    ended = RunOutcome(output="o", exit_code=1, started_at=0.0, ended_at=1.0, record=None)
    written = set(re.findall(r"^(\w+)\{", exposition(ended, {}).decode(), re.MULTILINE))
    asked = set(re.findall(r"\bemobeam_\w+", (DEPLOY / "prometheus" / "emobeam.rules.yaml").read_text()))
    assert asked
    assert asked <= written


def test_the_image_is_given_what_it_is_built_from():
    """No daemon builds it here; what it copies is what the wheel is built of (tests/test_package.py)."""
    allowed = (DEPLOY / "kubernetes" / "Dockerfile.dockerignore").read_text().split()
    linked = {os.readlink(path).rpartition("/")[2] for path in (ROOT / "emobeam").iterdir() if path.is_symlink()}
    assert {line[1:] for line in allowed if line.startswith("!")} == linked | {
        "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py", "emobeam",
    }  # fmt: skip
