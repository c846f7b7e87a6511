"""The built sdist and wheel: what Beam ships to workers, and what pip installs."""

import json
import os
import re
import shutil
import stat
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


def test_the_wheel_installs_one_name(built):
    _, wheel = built
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"emobeam"}
    assert len(tops) == 2


def test_both_hold_real_files(built):
    """emobeam/pipelines, emobeam/schemas and emobeam/model_export are links in the repository."""
    sdist, wheel = built
    with tarfile.open(sdist) as tar:
        assert [member.name for member in tar if not (member.isfile() or member.isdir())] == []
    with zipfile.ZipFile(wheel) as archive:
        assert [info.filename for info in archive.infolist() if stat.S_ISLNK(info.external_attr >> 16)] == []


@pytest.fixture(scope="module")
def site(built, tmp_path_factory):
    """A folder that the wheel alone is installed in; its libraries are those of this environment."""
    _, wheel = built
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*pip, str(wheel)], check=True)
    return folder


def outside(*paths):
    """This environment, but with these paths alone instead of this checkout's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return environment | {"PYTHONPATH": os.pathsep.join(map(str, paths))}


def check_output(*command, cwd, environment):
    """Run a command that must exit with 0 and print no error; return what it prints."""
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_wheel_scores_in_an_empty_folder(site, tmp_path):
    program = "from emobeam import models, scoring; print(scoring.__file__, models.__file__)"
    where = check_output(sys.executable, "-c", program, cwd=tmp_path, environment=outside(site))
    assert where.count(str(site)) == 2
    command = [str(site / "bin" / "emobeam"), "score", "--input", str(ROOT / "samples"), "--output", "scores"]
    assert json.loads(check_output(*command, cwd=tmp_path, environment=outside(site)))["files_ok"] == 17
    assert sorted(p.name for p in (tmp_path / "scores").iterdir()) == ["files", "runs", "segments"]


#: Top-level names of this project's folders that are common in other projects: nothing imports them bare.
BARE = ["audio", "models", "schemas", "storage", "scoring", "pipelines", "model_export"]

APP = """
import sys
from pathlib import Path

import models
import schemas
from emobeam.scoring import load_model, score_recording

if __name__ == "__main__":
    assert (models.OWNER, schemas.OWNER) == ("the application", "the application")
    model = load_model()
    for path in sys.argv[1:]:
        (first, *_) = score_recording(Path(path), model).files
        print(first["status"])
"""


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    """A folder with modules of the same names as ours, some of which cannot be imported at all."""
    folder = tmp_path_factory.mktemp("application")
    for name in ("models.py", "schemas/__init__.py", "pipelines/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text('OWNER = "the application"\n')
    for name in ("audio", "storage", "scoring", "model_export"):
        (folder / f"{name}.py").write_text(f'raise ImportError("{name} is the application\'s own")\n')
    (folder / "app.py").write_text(APP)
    return folder


@pytest.mark.parametrize("paths", [[], ["."]], ids=["installed", "its folder first on the path"])
def test_an_application_keeps_its_own_modules_and_scores(site, application, samples, tmp_path, paths):
    environment = outside(*paths, site)
    printed = check_output(sys.executable, "app.py", *map(str, samples), cwd=application, environment=environment)
    assert printed.split() == ["ok"] * 17
    command = [str(site / "bin" / "emobeam"), "score", "--input", str(ROOT / "samples"), "--output", str(tmp_path)]
    assert json.loads(check_output(*command, cwd=application, environment=environment))["files_ok"] == 17


def modules_after(program, *arguments, cwd):
    """The modules that a program has imported at its end, in a folder that has none."""
    program = f"import sys\n{program}\nprint(*sys.modules)"
    printed = check_output(sys.executable, "-c", program, *arguments, cwd=cwd, environment=outside(ROOT))
    return set(printed.splitlines()[-1].split())


def test_the_package_alone_imports_nothing_heavy(tmp_path):
    modules = modules_after("import emobeam", cwd=tmp_path)
    assert "emobeam" in modules
    assert not modules & {"numpy", "apache_beam", "pyarrow", "onnxruntime", "scipy"}


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--input", str(ROOT / "samples"), "--output", "scores"]])
def test_nothing_is_imported_by_a_bare_name(tmp_path, arguments):
    program = (
        "from emobeam.cli import main as command\n"
        "try: assert command.main(sys.argv[1:]) == 0\n"
        "except SystemExit as end: assert not end.code"
    )
    modules = modules_after(program, *arguments, cwd=tmp_path)
    assert "emobeam.cli.main" in modules
    assert ("emobeam.pipelines.score" in modules) == (arguments[0] == "score")
    assert not modules & set(BARE)


@pytest.mark.install
def test_the_sdist_installs_in_an_empty_environment_and_scores(built, tmp_path):
    """As Beam's workers install it with ``--setup_file``: from the sdist, with what it needs from PyPI."""
    sdist, _ = built
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    binaries = tmp_path / "venv" / "bin"
    pip = [str(binaries / "python"), "-m", "pip", "install", "--quiet", str(sdist)]
    subprocess.run(pip, env=outside(), check=True)

    def emobeam(*flags):
        return check_output(str(binaries / "emobeam"), *flags, cwd=tmp_path, environment=outside())

    assert "score" in emobeam("--help")
    assert json.loads(emobeam("score", "--input", str(ROOT / "samples"), "--output", "scores"))["files_ok"] == 17


def test_a_flex_template_asks_for_flags_that_there_are():
    import argparse

    from emobeam.cli.flags import add_score_arguments

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
        # These two may also be given by position, so argparse does not ask for their flags.
        needed = parameter["name"] in ("input", "output") or action.required
        assert needed is not parameter.get("isOptional", False)
        for choice in action.choices or ():
            assert re.fullmatch(parameter["regexes"][0], choice)


def test_scoring_needs_no_training_library():
    import importlib.metadata

    wanted = [r for r in importlib.metadata.requires("emobeam") or [] if "extra ==" not in r]
    assert wanted
    assert all("<" in requirement for requirement in wanted), "every dependency is bounded"
    names = {requirement.split(">")[0].split("[")[0].strip().lower() for requirement in wanted}
    assert not names & {"tensorflow", "tensorflow-cpu", "keras", "librosa", "tf2onnx", "pandas"}
