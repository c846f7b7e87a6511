"""How the tests are laid out: helpers are in tests/support/, and each file is short enough to read."""

import ast

from tests.support.paths import ROOT

FILES = sorted((ROOT / "tests").rglob("*.py"))


def imported(tree):
    """The full names of what a module imports, at its top or in a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole path"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_no_test_imports_a_test():
    """A module that is imported and collected has its fixtures and constants twice, and its assertions unexplained."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in FILES
        for name in imported(ast.parse(path.read_text()))
        if name.startswith("tests.") and not name.startswith("tests.support.")
    ]
    assert wrong == []


def test_each_file_has_under_500_lines():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {path: count for path, count in lines.items() if count >= 500} == {}
