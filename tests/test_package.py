"""The built sdist and wheel: what Beam ships to workers, and what pip installs."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT


def sources():
    """The package's modules, as they are imported: through the links in emobeam/, too."""
    for folder, _, files in os.walk(ROOT / "emobeam", followlinks=True):
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    # Built from a copy: caches and earlier builds in this checkout must play no part.
    tree = tmp_path_factory.mktemp("tree") / "emobeam"
    passed_over = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "scores", "runs")
    shutil.copytree(ROOT, tree, ignore=passed_over)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    subprocess.run(build, check=True, capture_output=True)
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return sdist, wheel


def test_both_hold_every_package_and_the_model_and_no_tests(built):
    sdist, wheel = built
    with tarfile.open(sdist) as tar:
        in_sdist = {name.partition("/")[2] for name in tar.getnames()}
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    for names in (in_sdist, in_wheel):
        tops = {name.partition("/")[0] for name in names if name.endswith(".py") and "/" in name}
        assert tops == {"emobeam"}
        data = {f"models/{name}.{ending}" for name in ("default", "speech") for ending in ("onnx", "md")}
        data |= {"py.typed", "model_export/corpora/ravdess_emobox.json"}
        assert {f"emobeam/{name}" for name in data} <= names
        assert {str(path.relative_to(ROOT)) for path in sources()} <= names
    assert "setup.py" in in_sdist


def test_the_wheel_scores_in_an_empty_folder(built, tmp_path):
    _, wheel = built
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONPATH"] = str(site)
    where = subprocess.run(
        [sys.executable, "-c", "from emobeam import models, scoring; print(scoring.__file__, models.__file__)"],
        cwd=empty, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.count(str(site)) == 2
    done = subprocess.run(
        [str(site / "bin" / "emobeam"), "score", "--input", str(ROOT / "samples"), "--output", "scores"],
        cwd=empty, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files_ok"] == 9
    assert sorted(p.name for p in (empty / "scores").iterdir()) == ["files", "runs", "segments"]
    assert done.stderr == ""


@pytest.mark.install
def test_the_sdist_installs_in_an_empty_environment_and_scores(built, tmp_path):
    """As Beam's workers install it with ``--setup_file``: from the sdist, with what it needs from PyPI."""
    sdist, _ = built
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    binaries = tmp_path / "venv" / "bin"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    pip = [str(binaries / "python"), "-m", "pip", "install", "--quiet", str(sdist)]
    subprocess.run(pip, env=environment, check=True)

    def emobeam(*flags):
        done = subprocess.run(
            [str(binaries / "emobeam"), *flags],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "score" in emobeam("--help")
    assert json.loads(emobeam("score", "--input", str(ROOT / "samples"), "--output", "scores"))["files_ok"] == 9


def test_a_flex_template_asks_for_flags_that_there_are():
    import argparse

    from emobeam.schemas.settings import add_score_arguments

    flags = {}

    class Parser(argparse.ArgumentParser):
        def add_argument(self, *names, **options):
            action = super().add_argument(*names, **options)
            flags.update(dict.fromkeys((name.removeprefix("--") for name in names), action))
            return action

    add_score_arguments(Parser())
    metadata = json.loads((ROOT / "deploy" / "dataflow" / "metadata.json").read_text())
    for parameter in metadata["parameters"]:
        action = flags[parameter["name"]]
        assert action.required is not parameter.get("isOptional", False)
        for choice in action.choices or ():
            assert re.fullmatch(parameter["regexes"][0], choice)


def test_scoring_needs_no_training_library():
    import importlib.metadata

    wanted = [r for r in importlib.metadata.requires("emobeam") or [] if "extra ==" not in r]
    assert wanted
    assert all("<" in requirement for requirement in wanted), "every dependency is bounded"
    names = {requirement.split(">")[0].split("[")[0].strip().lower() for requirement in wanted}
    assert not names & {"tensorflow", "tensorflow-cpu", "keras", "librosa", "tf2onnx", "pandas"}
