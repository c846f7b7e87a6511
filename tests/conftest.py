"""What many tests need."""

import collections
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from emobeam import storage
from emobeam.cli.process import exit_process
from emobeam.scoring import Model, load_model
from emobeam.scoring.cpus import usable_cpus
from emobeam.storage import buckets
from tests.support import factory, reliability
from tests.support.paths import ROOT
from tests.support.runs import run_score

# Nothing depends on the machine's speed, and the same examples are tried each time: tools/fuzz.py looks for new ones.
hypothesis.settings.register_profile(
    "emobeam",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("emobeam")

_STATUS = pytest.StashKey[int]()
_TRIED = pytest.StashKey[dict[str, list[reliability.Row]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-reliability", action="store_true", help="write what the tests try into docs/reliability.md"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TRIED] = collections.defaultdict(list)


@pytest.fixture
def tried(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """Checks that docs/reliability.md has a fault or bad input and its outcome, or writes them there.

    A row of the files table counts by its status, stage and code, and by its message without the paths of this run.
    """

    def record(section: str, case: str, became: str | Mapping[str, Any], said: str = "") -> None:
        if not isinstance(became, str):
            parts = (became["status"], became["error_stage"], became["error_code"])
            said = (
                (became["error_message"] or "").replace(f"{tmp_path}/in", "/archive").replace(str(tmp_path), "/archive")
            )
            became = ", ".join(dict.fromkeys(f"`{part}`" for part in parts if part))
        if request.config.getoption("--write-reliability"):
            request.config.stash[_TRIED][section].append((case, became, said))
            return
        rows = [row[:2] for row in reliability.read(reliability.PAGE.read_text()).get(section, ())]
        assert (case, became) in rows, "docs/reliability.md is stale: run `pytest --write-reliability`"

    return record


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of the real corpora, where `.ci/run` or a developer names it."""
    folder = os.environ.get("EMOBEAM_CORPORA")
    if not folder:
        pytest.skip("EMOBEAM_CORPORA is not set: a folder with ravdess/, crema_d/, ..")
    return Path(folder)


@pytest.fixture
def a_bucket() -> Iterator[Callable[[str], str]]:
    """Gives a prefix of its own on a server of a kind, or skips where there is none."""
    prefixes = []

    def on(kind: str) -> str:
        place = os.environ.get(f"EMOBEAM_TEST_{kind.upper()}")
        if not place:
            pytest.skip(f'no server: eval "$(deploy/{kind}/start.sh)" starts one, and says what it lacks')
        prefixes.append(f"{place}/{uuid.uuid4().hex}")
        return prefixes[-1]

    yield on
    for prefix in prefixes:
        buckets.reset_stores()
        storage.remove_tree(prefix)


@pytest.fixture(scope="session")
def samples() -> list[Path]:
    """The clips in samples/."""
    return sorted(p for p in (ROOT / "samples").iterdir() if p.suffix not in {".py", ".md"} and p.is_file())


@pytest.fixture(scope="session")
def tiny() -> Model:
    return load_model(factory.tiny_model())


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    path.write_bytes(factory.tiny_model())
    return path


@pytest.fixture
def archive(tmp_path):
    """Six short recordings."""
    for index in range(6):
        factory.write_wav(tmp_path / "in" / f"{index}.wav", factory.voice(0.5 + index / 4, seed=index))
    return tmp_path / "in"


@pytest.fixture
def night(archive, tiny_path, tmp_path):
    """Score the archive into one output, as often as called."""

    def run(*flags, parts=None):
        return run_score(
            "--input", archive, "--output", tmp_path / "out", "--model", tiny_path, "--direct_num_workers", "1", *flags,
            parts=parts,
        )  # fmt: skip

    return run


def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: as many as this process, or its container, may use."""
    return usable_cpus()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_STATUS] = int(exitstatus)
    tried = session.config.stash[_TRIED]
    if (output := getattr(session.config, "workeroutput", None)) is not None:  # one of pytest-xdist's workers
        output["tried"] = dict(tried)
    elif tried:
        reliability.PAGE.write_text(reliability.write(reliability.PAGE.read_text(), tried))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect what the tests of a worker of pytest-xdist's tried; one that crashed hands over nothing."""
    for section, rows in getattr(node, "workeroutput", {}).get("tried", {}).items():
        node.config.stash[_TRIED][section].extend(rows)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    # Tests run Beam in this process; see `exit_process` for why its end must not be left to the interpreter.
    if "apache_beam" in sys.modules:
        exit_process(config.stash.get(_STATUS, 1))
