"""A table of one's own under any column names: CSV, tab-separated (``.tsv``), JSON lines (``.jsonl``) or parquet.

Three columns are read, and a fourth if it exists. ``data.columns`` names them; where it does not, these are known:

    caption      caption, prompt          text
    winner       winner, chosen           path of the preferred image, relative to the table
    loser        loser, rejected          path of the other image
    annotator    annotator                who chose; may be missing

In a parquet file winner and loser may be the images themselves, as bytes or as datasets' ``Image()``. Nothing is
guessed: a role that two columns could have, a column that two roles name, and a named column that is not there are
errors. Other columns are not read.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qsd.data.image_files import ImageFiles
from qsd.data.image_rows import ImageRows, RowLayout
from qsd.data.json_lines import json_lines
from qsd.data.listed import Listed, ListedPairs, shown, text
from qsd.data.pairs import SourceRow
from qsd.data.parquet import check_columns, image_file, is_image, is_label, is_text, label_text, open_parquet, stream
from qsd.data.readers import Reader
from qsd.data.text_table import TextTable
from qsd.errors import UserError
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from qsd.data.image_rows import Row

KNOWN = {
    "caption": ("caption", "prompt"),
    "winner": ("winner", "chosen"),
    "loser": ("loser", "rejected"),
    "annotator": ("annotator",),
}
"""Role -> names of its column that need no ``data.columns``."""
OPTIONAL = ("annotator",)
_TEXT = (".csv", ".tsv")
_ENDINGS = (*_TEXT, ".jsonl", ".parquet")
_STREAMED_ROWS = 4096
_LABEL = (is_label, "text or numbers")


def open_table(path: Path, columns: Mapping[str, str] | None = None) -> ListedPairs | ImageRows:
    """The pairs of a table.

    Args:
        path: the file.
        columns: role -> name of its column, for the roles that ``data.columns`` gives.

    Raises:
        UserError: no such file or format, a column that is not there or that is ambiguous; in JSON lines also a value
            of another type, with its line.
    """
    if not path.is_file() or path.suffix not in _ENDINGS:
        what = "a folder" if path.is_dir() else "no such file or folder" if not path.exists() else "another format"
        raise UserError(f"{path}: {what}; give a table that ends with {', '.join(_ENDINGS)}")
    given = columns or {}
    if path.suffix == ".parquet":
        schema = open_parquet(path).schema_arrow
        names = column_names(str(path), schema.names, given)
        if is_image(schema.field(names["winner"]).type):
            return ImageRows([path], _with_images(names))
        return ListedPairs(path, _parquet_rows(path, names), ImageFiles(path.parent))
    rows = _text_rows(path, given) if path.suffix in _TEXT else _json_rows(path, given)
    return ListedPairs(path, rows, ImageFiles(path.parent))


def column_names(place: str, present: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Role -> name of its column, for all roles that the table has.

    Args:
        place: the file, or file and line, for messages.
        present: the table's columns.
        given: what ``data.columns`` says.

    Raises:
        UserError: a column that is not there, that two roles name, or a role that no column or several could have.
    """
    names: dict[str, str] = {}
    have = shown(", ".join(present)) or "nothing"
    for role, known in KNOWN.items():
        found = [given[role]] if role in given else [name for name in known if name in present]
        if role in given and given[role] not in present:
            raise UserError(
                f"{place}: column {given[role]!r}{suggest(given[role], present)} of data.columns.{role} is not there; "
                f"it has {have}"
            )
        if len(found) > 1:
            raise UserError(
                f"{place}: {' and '.join(map(repr, found))} could both be the {role}; say which one with "
                f"data.columns.{role}"
            )
        if found:
            names[role] = found[0]
        elif role not in OPTIONAL:
            raise UserError(
                f"{place}: no column {' or '.join(map(repr, known))}; it has {have}; name the column of the {role} "
                f"with data.columns.{role}"
            )
    for role, name in names.items():
        other = next(one for one in names if names[one] == name)
        if other != role:
            raise UserError(
                f"{place}: column {name!r} is both the {other} and the {role}; name another one with "
                f"data.columns.{role if role in given else other}"
            )
    return names


def _text_rows(path: Path, given: Mapping[str, str]) -> Iterator[Listed]:
    table = TextTable(path)
    names = column_names(f"{path}:1", table.header, given)
    for row in table.rows():
        name = f"line-{row.line}"
        if row.problem:
            yield Listed(name, None, problem=row.problem)
        else:
            yield _row(name, names, dict(zip(table.header, row.cells, strict=True)))


def _json_rows(path: Path, given: Mapping[str, str]) -> Iterator[Listed]:
    names: dict[str, str] = {}
    for line, item in json_lines(path):
        place = f"{path}:{line}"
        names = names or column_names(place, list(item), given)
        if late := [known for role in OPTIONAL for known in KNOWN[role] if role not in names and known in item]:
            raise UserError(
                f"{place}: has '{late[0]}', which the first line has not; give it there too, if need be as null"
            )
        for role, name in names.items():
            if name not in item and role not in OPTIONAL:
                raise UserError(f"{place}: '{name}' (the {role}) is missing; it has {shown(', '.join(item))}")
            value = item.get(name)
            if value is not None and not isinstance(value, str) and (role not in OPTIONAL or type(value) is not int):
                raise UserError(f"{place}: '{name}' (the {role}) must be text or null, not {shown(repr(value))[:40]}")
        yield _row(f"line-{line}", names, item)


def _parquet_rows(path: Path, names: Mapping[str, str]) -> Iterator[Listed]:
    file, number = open_parquet(path), 0
    check_columns(
        path,
        file.schema_arrow,
        {name: _LABEL if role in OPTIONAL else (is_text, f"text (the {role})") for role, name in names.items()},
    )
    for group in range(file.metadata.num_row_groups):
        for batch in stream(file, path, group, list(names.values()), _STREAMED_ROWS, number):
            for row in batch:
                yield _row(f"row-{number}", names, row)
                number += 1


def _row(name: str, names: Mapping[str, str], row: Mapping[str, Any]) -> Listed:
    caption, winner, loser = (text(row[names[role]]) for role in ("caption", "winner", "loser"))
    annotator = row.get(names["annotator"]) if "annotator" in names else None
    return Listed(name, caption, winner, loser, label_text(annotator))


def _with_images(names: Mapping[str, str]) -> RowLayout:
    """The layout of a parquet file that has the images in its rows."""
    image = (is_image, "image files, as bytes or as datasets' Image() writes them")
    return RowLayout(
        {names["caption"]: (is_text, "text (the caption)"), names["winner"]: image, names["loser"]: image},
        {names["annotator"]: _LABEL} if "annotator" in names else {},
        (names["winner"], names["loser"]),
        partial(_image_row, names),
    )


def _image_row(names: Mapping[str, str], number: int, values: Row) -> SourceRow:
    return SourceRow(
        number=number,
        name=f"row-{number}",
        caption=values.get(names["caption"]),
        winner=image_file(values[names["winner"]]),
        loser=image_file(values[names["loser"]]),
        annotator=label_text(values.get(names["annotator"])) if "annotator" in names else None,
    )


def _digest(path: Path) -> str:
    """Of the images beside the table; empty where the table has them itself, whose content the path's digest covers."""
    source = open_table(path)
    return source.digest() if isinstance(source, ListedPairs) else ""


def _recognises(path: Path) -> bool:
    if path.suffix == ".jsonl":
        return True
    if path.suffix == ".parquet":
        return path.is_file() and "chosen" in open_parquet(path).schema_arrow.names
    return path.suffix in _TEXT and {"chosen", "rejected"} <= set(TextTable(path).header)


READER = Reader(open=open_table, recognises=_recognises, digest=_digest, with_columns=open_table)
