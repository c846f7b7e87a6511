"""The page of faults and bad inputs says what the tests do: each of them checks its own rows, here is the rest."""

from tests.support import hostile, reliability, written
from tests.support.paths import ROOT


def test_every_row_is_of_a_test():
    """A row whose test is gone goes, too."""
    source = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    made = {bad.case for bad in (*hostile.recordings(), *written.recordings())}
    for heading, rows in reliability.read(reliability.PAGE.read_text()).items():
        for case, *_ in rows:
            assert case in made or f'"{case}"' in source.replace('\\"', '"'), f"{heading}: no test tries {case!r}"


def test_every_case_has_a_row_and_they_are_counted():
    text = reliability.PAGE.read_text()
    rows = reliability.read(text)
    cases = [row[0] for section in rows.values() for row in section]
    assert len(cases) == len(set(cases)) == reliability.number(text)
    assert {bad.case for bad in (*hostile.recordings(), *written.recordings())} <= set(cases)
    assert f"**{len(cases)} faults and bad inputs**" in text


def test_rows_come_back_as_they_were_written():
    rows = [("a | b", "`failed`", "says \\ and |"), ("c", "", "")]
    page = reliability.write("# A page\n\n**0 of them**\n\n## One\n\nSome prose.\n\n## Two\n", {"One": rows})
    assert reliability.read(page) == {"# A page": [], "One": rows, "Two": []}
    assert "**2 of them**" in page
    again = reliability.write(page, {"One": [("c", "new", "")]})
    assert reliability.read(again)["One"] == [rows[0], ("c", "new", "")]
    assert reliability.write(again, {}) == again
