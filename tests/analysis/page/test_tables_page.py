"""The tables as one page of HTML: the same cells as in Markdown, no program, and hostile texts stay texts."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.data.load import load
from analysis.data.rows import FILE, to_json
from analysis.document.build import build_document
from analysis.document.model import Table, unstyled
from analysis.page.write import render_tables
from analysis.statistics.build_rows import build_rows
from tests.analysis.synthetic import Cell, World, write_sweep

pytestmark = pytest.mark.slow
HOSTILE = "<script>bad()</script> {{ 7 * 7 }} &amp; ]]>"


class Reader(HTMLParser):
    """Elements by name, the texts of the cells of tables, and every text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.cells: list[str] = []
        self.texts = ""
        self._open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)
        if tag in ("td", "th"):
            self._open = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.texts += data
        if self._open:
            self.cells[-1] += data


def test_the_page_has_every_cell_of_the_tables_and_nothing_that_runs(tmp_path: Path) -> None:
    cells = [
        Cell("metric=product", effect=0.0, seeds=(0, 1, 2)),
        Cell("metric=ratio", effect=3.0, seeds=(0, 1, 2)),
        Cell("base model", role="base", seeds=(None,)),
    ]
    world = World(cells, "metric=product", prompts={"evaluation": 12}, pictures=False)
    folder = write_sweep(tmp_path, world)
    path = folder / "cells.json"
    content = json.loads(path.read_text().replace("metric=ratio", "metric=<i>ratio"))
    path.write_text(json.dumps({**content, "question": HOSTILE}))
    results = load(tmp_path, folder)
    rows = build_rows(results)
    (folder / FILE).write_text(to_json(rows))
    page = Reader(render_tables(folder))

    document = build_document(results.sweep, rows)
    sections = [inner for outer in document.sections for inner in (outer, *outer.sections)]
    tables = [block for section in sections for block in section.blocks if isinstance(block, Table)]
    expected = [
        text
        for table in tables
        for text in (
            *(column.heading for column in table.columns),
            *(unstyled(cell.text) + cell.marks for row in table.rows for cell in row),
        )
    ]
    assert page.cells == expected
    assert any("*" in text for text in page.cells), "a difference of three units is marked"
    assert any("metric=<i>ratio" in text for text in page.cells)
    assert HOSTILE in page.texts
    assert " ".join(document.verdict) in page.texts
    assert not {"script", "img", "i", "button", "input"} & set(page.names)
    assert page.names.count("table") == len(tables) >= 1
