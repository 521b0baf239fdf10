"""One's own pairs: a CSV or parquet file with ``caption``, ``winner``, ``loser``, and perhaps ``annotator``.

``winner`` and ``loser`` are paths of image files relative to the file; a folder may be a zip archive. A path that leads
out of the file's folder is refused. In a parquet file they may be the images themselves, as bytes or as the ``{bytes,
path}`` of datasets' ``Image()``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.data.image_files import ImageFiles
from qsd.data.image_rows import ImageRows, RowLayout
from qsd.data.listed import Listed, ListedPairs, text
from qsd.data.pairs import SourceRow
from qsd.data.parquet import check_columns, image_file, is_image, is_label, is_text, label_text, open_parquet, stream
from qsd.data.readers import Reader
from qsd.data.text_table import TextTable
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qsd.data.image_rows import Row

COLUMNS = ("caption", "winner", "loser")
_STREAMED_ROWS = 4096
_IMAGE = (is_image, "image files, as bytes or as datasets' Image() writes them")
_ANNOTATOR = {"annotator": (is_label, "text or numbers")}


def open_own_pairs(path: Path) -> ListedPairs | ImageRows:
    """The pairs of a table: a list of paths, or a parquet file that has the images in its rows.

    Raises:
        UserError: no such file, not CSV or parquet, or a column is missing.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file or folder"
        raise UserError(f"{path}: {what}; give a CSV or parquet file with {', '.join(COLUMNS)}")
    if path.suffix == ".parquet" and _has_images(path):
        return ImageRows([path], _WITH_IMAGES)
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _text_rows(path)
    return ListedPairs(path, rows, ImageFiles(path.parent))


def _text_rows(path: Path) -> Iterator[Listed]:
    table = TextTable(path)
    table.require(COLUMNS)
    for row in table.rows():
        name = f"line-{row.line}"
        if row.problem:
            yield Listed(name, None, problem=row.problem)
        else:
            yield _row(name, dict(zip(table.header, row.cells, strict=True)))


def _parquet_rows(path: Path) -> Iterator[Listed]:
    file, number = open_parquet(path), 0
    needed = dict.fromkeys(COLUMNS, (is_text, "text"))
    if "annotator" in file.schema_arrow.names:
        needed |= _ANNOTATOR
    check_columns(path, file.schema_arrow, needed)
    columns = list(needed)
    for group in range(file.metadata.num_row_groups):
        for batch in stream(file, path, group, columns, _STREAMED_ROWS, number):
            for row in batch:
                yield _row(f"row-{number}", row)
                number += 1


def _row(name: str, row: dict[str, Any]) -> Listed:
    return Listed(
        name=name,
        caption=text(row["caption"]),
        winner=text(row["winner"]),
        loser=text(row["loser"]),
        annotator=label_text(row.get("annotator")),
    )


def _has_images(path: Path) -> bool:
    schema = open_parquet(path).schema_arrow
    return "winner" in schema.names and is_image(schema.field("winner").type)


def _image_row(number: int, values: Row) -> SourceRow:
    return SourceRow(
        number=number,
        name=f"row-{number}",
        caption=values.get("caption"),
        winner=image_file(values["winner"]),
        loser=image_file(values["loser"]),
        annotator=label_text(values.get("annotator")),
    )


def _digest(path: Path) -> str:
    """Of the images beside the table; empty where the table has them itself, whose content the path's digest covers."""
    source = open_own_pairs(path)
    return source.digest() if isinstance(source, ListedPairs) else ""


def _recognises(path: Path) -> bool:
    if path.suffix == ".parquet":
        return path.is_file() and "winner" in open_parquet(path).schema_arrow.names
    return path.suffix in (".csv", ".tsv")


_WITH_IMAGES = RowLayout(
    {"caption": (is_text, "text"), "winner": _IMAGE, "loser": _IMAGE}, _ANNOTATOR, ("winner", "loser"), _image_row
)
READER = Reader(open=open_own_pairs, recognises=_recognises, digest=_digest)
