"""What many tests need."""

import os
import sys
from pathlib import Path

import factory
import pytest

from pipelines.leave import leave
from scoring import Model, load_model

ROOT = Path(__file__).resolve().parent.parent

_STATUS = pytest.StashKey[int]()


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of the real corpora, where `.ci/run` or a developer names it."""
    folder = os.environ.get("EMOBEAM_CORPORA")
    if not folder:
        pytest.skip("EMOBEAM_CORPORA is not set: a folder with ravdess/, crema_d/, ..")
    return Path(folder)


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
    from test_pipeline import run_score  # and with it Beam, which most tests do without

    def run(*flags, **plan):
        return run_score(
            "--input", archive, "--output", tmp_path / "out", "--model", tiny_path, "--direct_num_workers", "1", *flags,
            **plan,
        )  # fmt: skip

    return run


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    # Tests run Beam in this process; see `leave` for why its end must not be left to the interpreter.
    if "apache_beam" in sys.modules:
        leave(config.stash.get(_STATUS, 1))
