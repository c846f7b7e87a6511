"""Jinja2 templates of the reports, in ``templates/``: ``.html.j2`` are escaped, ``.md.j2`` are not."""

from pathlib import Path
from urllib.parse import quote

import jinja2
import markupsafe
import pandas as pd


def render(template: str, **context: object) -> str:
    """Render a template.

    Parameters
    ----------
    template : str
        File name in ``templates/``.
    **context
        Every variable that the template reads; a missing one is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"quote": quote, "table": _table}
    return environment.get_template(template).render(**context)


def _table(frame: pd.DataFrame, digits: int = 3) -> markupsafe.Markup:
    """Return a table in HTML without its index, with fractions to so many digits; pandas escapes the cells."""
    rows = frame.to_html(index=False, border=0, na_rep="-", float_format=f"{{:.{digits}f}}".format)
    return markupsafe.Markup(f'<div class="wide">{rows}</div>')
