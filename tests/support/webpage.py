"""A parser of the pages that the project writes."""

import html.parser

import pandas as pd


class Page(html.parser.HTMLParser):
    """The sources, tags, tables and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.sources, self.tags, self.tables = [], set(), []
        self._cell = False
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        attrs = dict(attrs)
        if "src" in attrs:
            self.sources.append((tag, attrs["src"]))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        self._cell = tag in ("td", "th")

    def handle_data(self, data):
        if self._cell:
            self.tables[-1][-1].append(data)
            self._cell = False

    def table(self, number):
        head, *rows = self.tables[number]
        return pd.DataFrame(rows, columns=head).set_index(head[0])
