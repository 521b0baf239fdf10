"""Write ``report.html``, the template with what ``content`` gathers, and the tables alone as HTML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.data.rows import FILE, read_rows
from analysis.data.sweep import read_sweep
from analysis.document.build import build_document
from analysis.document.model import Notes, Paragraph, Table
from analysis.page.content import content
from analysis.page.present import ASSETS, NAME, shown_digest
from qsd.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.document.model import Block


def write_page(runs: Path, sweep_folder: Path) -> Path:
    """Write the page of a sweep whose tables are written, in one step; its path.

    Raises:
        UserError: the tables are not written, or nothing is evaluated.
    """
    path = sweep_folder / NAME
    write_bytes(path, page_text(runs, sweep_folder).encode())
    return path


def page_text(runs: Path, sweep_folder: Path) -> str:
    """The page of a sweep whose tables are written; raises like :func:`write_page`."""
    shows = shown_digest(sweep_folder)
    return render({**content(runs, sweep_folder), "shows": shows or ""})


def render(values: dict[str, Any]) -> str:
    """The page; every text is escaped, and the data for its program holds no sign that could end its element."""
    assets = {name: _asset(f"page.{name}") for name in ("css", "js")}
    return _environment().get_template("page.html").render(**values, assets=assets)


def render_tables(sweep_folder: Path) -> str:
    """The tables alone as a page without pictures and programs, of a sweep whose ``rows.json`` is written."""
    document = build_document(read_sweep(sweep_folder), read_rows(sweep_folder / FILE))
    return _environment().get_template("tables.html").render(document=document, css=_asset("page.css"))


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data"] = _data
    environment.filters["kind"] = _kind
    environment.filters["duration"] = duration
    return environment


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 5 s``, ``2 h 10 min``, ``3 d 4 h``."""
    whole = round(seconds)
    for size, name, smaller, below in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // smaller} {below}"
    return f"{whole} s"


def _data(value: Any) -> str:
    """JSON in which no HTML can begin."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _kind(block: Block) -> str:
    names = {Paragraph: "paragraph", Table: "table", Notes: "notes"}
    return names[type(block)]
