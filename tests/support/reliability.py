"""The page of faults and bad inputs, docs/reliability.md: the tests that try them write its tables, and check them.

Each section ends with its table; its rows are (case, result, message).
"""

import re
from collections.abc import Iterable, Mapping

from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "reliability.md"
HEAD = ["| tried | what became of it | what is said |", "|---|---|---|"]

Row = tuple[str, str, str]


def read(text: str) -> dict[str, list[Row]]:
    """Return the rows of each section by its heading."""
    sections = {}
    for section in _sections(text):
        lines = [line for line in section.splitlines() if line.startswith("| ") and line not in HEAD]
        sections[_heading(section)] = [_cells(line) for line in lines]
    return sections


def write(text: str, tried: Mapping[str, Iterable[Row]]) -> str:
    """Return the page with these rows in these sections, each in the place of one of the same case or at the end."""
    before, parts = read(text), _sections(text)
    missing = set(tried) - set(before)
    assert not missing, f"{PAGE.name} needs the headings {missing}"
    for index, section in enumerate(parts):
        if (heading := _heading(section)) in tried:
            prose = "\n".join(line for line in section.splitlines() if not line.startswith("|")).rstrip()
            rows = {row[0]: row for row in (*before[heading], *tried[heading])}
            lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows.values()]
            parts[index] = "\n".join([prose, "", *HEAD, *lines]) + "\n\n"
    text = "".join(parts).rstrip("\n") + "\n"
    return re.sub(r"\*\*\d+ ", f"**{number(text)} ", text, count=1)


def number(text: str) -> int:
    """Return the number of rows on the page."""
    return sum(map(len, read(text).values()))


def _sections(text: str) -> list[str]:
    return re.split(r"(?m)^(?=## )", text)


def _heading(section: str) -> str:
    return section.partition("\n")[0].removeprefix("## ")


def _cells(line: str) -> Row:
    case, became, said = (cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1])
    return case, became, said


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
