"""The prompts of an evaluation: a table with prompt_id, caption and split; prompts alone; or a folder of style lists.

Tables are CSV, tab-separated (``.tsv``) or parquet. Prompts alone are a ``.txt`` with one on each line, a table whose
only column is ``caption``, or PartiPrompts as published (``Prompt``, ``Category``, ``Challenge``, ``Note``): all of
them are in the split ``evaluation``, and their ids are their places, from 00000. A column ``category`` beside the
three, or PartiPrompts' ``Category``, is kept: tables then have differences by category.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qsd.config.once_per_process import OncePerProcess
from qsd.data.prompt_sets import missing_hint
from qsd.data.prompt_sets.prompt_set import ONLY_SPLIT
from qsd.data.text_table import PROBLEMS, TextTable, text_lines
from qsd.errors import UserError
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from qsd.config.schema import EvaluationConfig

COLUMNS = ("prompt_id", "caption", "split")
_CATEGORY = "category"
_PARTI, _PARTI_CATEGORY = "Prompt", "Category"
_CAPTIONS = ("caption", _PARTI)
_STREAMED_ROWS = 4096


@dataclass(frozen=True)
class Prompt:
    """One prompt. ``prompt_id`` decides the initial noise of its images; ``category`` is empty if there is none."""

    prompt_id: str
    caption: str
    split: str
    category: str = ""


def read_prompts(evaluation: EvaluationConfig) -> list[Prompt]:
    """The prompts of an evaluation (``read_splits``)."""
    return read_splits(Path(evaluation.prompts), evaluation.splits, evaluation.prompts_per_split)


@OncePerProcess
def check_prompts(path: str, splits: tuple[str, ...], most: int | None) -> None:
    """Read the prompts of an evaluation as its stages will; the small file is read once per process for all cells.

    Raises:
        UserError: as ``read_splits``.
    """
    read_splits(Path(path), splits, most)


def read_splits(
    path: Path,
    wanted: Sequence[str],
    most: int | None = None,
    field: str = "evaluation.prompts",
    chosen_by: str | None = None,
) -> list[Prompt]:
    """The first prompts of every wanted split, in the order of the file.

    Args:
        path: table, text file with a prompt on each line, or folder of style lists.
        wanted: names of splits.
        most: prompts of each split; None: all.
        field: that names the file, for messages.
        chosen_by: the field that names the splits; None: ``splits`` of the same section.

    Raises:
        UserError: a missing file, column or split, an empty caption, or a duplicate id; with its line.
    """
    by_split: dict[str, list[Prompt]] = {split: [] for split in wanted}
    lines_by_id: dict[str, int] = {}
    splits: set[str] = set()
    for line, row in _rows(path, field):
        cells = {column: row[column].strip() for column in COLUMNS}
        if empty := next((column for column, cell in cells.items() if not cell), None):
            raise UserError(f"{path}:{line}: the {empty} is empty")
        prompt = Prompt(**cells, category=" ".join(row.get(_CATEGORY, "").split()))
        if prompt.prompt_id in lines_by_id:
            raise UserError(
                f"{path}:{line}: prompt_id {prompt.prompt_id!r} occurs twice "
                f"(first in line {lines_by_id[prompt.prompt_id]})"
            )
        lines_by_id[prompt.prompt_id] = line
        splits.add(prompt.split)
        prompts = by_split.get(prompt.split)
        if prompts is not None and (most is None or len(prompts) < most):
            prompts.append(prompt)
    _check_spelling(path, splits)
    for split, prompts in by_split.items():
        if not prompts:
            raise UserError(
                f"{path}: no prompt of split {split!r}{suggest(split, splits)}; it has {', '.join(sorted(splits))} "
                f"(set {chosen_by or field.partition('.')[0] + '.splits'})"
            )
    return [prompt for prompts in by_split.values() for prompt in prompts]


def _check_spelling(path: Path, splits: Iterable[str]) -> None:
    """Refuse two splits that only differ in capital letters: the prompts of one of them would be left out."""
    spelt: dict[str, str] = {}
    for split in sorted(splits):
        other = spelt.setdefault(split.casefold(), split)
        if other != split:
            raise UserError(f"{path}: has the splits {other!r} and {split!r}; write them the same way")


def _rows(path: Path, field: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with their line number (text files) or row number (parquet, style lists), from 1."""
    if path.is_dir():
        yield from enumerate(_of_styles(path), start=1)
    elif not path.exists():
        remedy = missing_hint(path) or f"; set {field} to a CSV with {', '.join(COLUMNS)}"
        raise UserError(f"{path}: no such file{remedy}")
    elif path.suffix == ".parquet":
        yield from _of_parquet(path)
    elif path.suffix == ".txt":
        yield from _numbered(_of_lines(path))
    else:
        yield from _of_table(path)


def _of_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every prompt of a file that has one on each line.

    Raises:
        UserError: a tab, or the names of columns: programs also call their tables ``.txt``.
    """
    for line, text in text_lines(path):
        if "\t" in text or set(COLUMNS) <= set(text.split(",")):
            raise UserError(
                f"{path}:{line}: a table, but a .txt has a prompt on each line; name it .csv (commas) or .tsv (tabs)"
            )
        if text.strip():
            yield line, text


def _of_parquet(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    from qsd.data.parquet import check_columns, is_label, is_text, label_text, open_parquet, stream

    file, number = open_parquet(path), 0
    alone = file.schema_arrow.names == ["caption"]
    columns: tuple[str, ...] = ("caption",) if alone else COLUMNS
    needed = {name: (is_text, "text") if name == "caption" else (is_label, "text or a number") for name in columns}
    check_columns(path, file.schema_arrow, needed)
    # Another kind of column may have this name: it was ignored before categories were read.
    if _CATEGORY in file.schema_arrow.names and is_label(file.schema_arrow.field(_CATEGORY).type):
        columns = (*columns, _CATEGORY)
    for group in range(file.metadata.num_row_groups):
        for batch in stream(file, path, group, columns, _STREAMED_ROWS, number):
            for row in batch:
                values = {name: label_text(value) or "" for name, value in row.items()}
                yield number + 1, {**_alone(number), **values} if alone else values
                number += 1


def _of_table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV or a file with tabs: with all three columns, or with a column of prompts and no id nor split."""
    table = TextTable(path)
    alone = next((name for name in _CAPTIONS if name in table.header), None)
    if alone and not {"prompt_id", "split"} & set(table.header) and (alone == _PARTI or len(table.header) == 1):
        place = table.header.index(alone)
        of_parti = table.header.index(_PARTI_CATEGORY) if _PARTI_CATEGORY in table.header else None
        for number, (line, cells) in enumerate(_good_rows(path, table)):
            category = "" if of_parti is None else cells[of_parti]
            yield line, {**_alone(number), "caption": cells[place], _CATEGORY: category}
        return
    table.require(COLUMNS)
    for line, cells in _good_rows(path, table):
        yield line, dict(zip(table.header, cells, strict=True))


def _good_rows(path: Path, table: TextTable) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and cells of every row; a prompt that is read wrong would be another prompt, so a bad row is an error."""
    for row in table.rows():
        if row.problem:
            count = f"{row.count} cells instead of {len(table.header)}: " if row.count else ""
            raise UserError(f"{path}:{row.line}: {count}{PROBLEMS[row.problem]}")
        if any("\n" in cell for cell in row.cells):
            raise UserError(
                f"{path}:{row.line}: a line break inside quotation marks; is one of them missing? Write each prompt on "
                "one line"
            )
        yield row.line, row.cells


def _numbered(captions: Iterable[tuple[int, str]]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a file that has prompts only: the place in the file, from 0, is the id."""
    for number, (line, caption) in enumerate(captions):
        yield line, {**_alone(number), "caption": caption}


def _alone(number: int) -> dict[str, str]:
    return {"prompt_id": f"{number:05d}", "split": ONLY_SPLIT}


def _of_styles(folder: Path) -> Iterator[dict[str, str]]:
    """Rows of the HPS v2 benchmark's lists: the style is the split; style and position in the list are the id."""
    from qsd.data.style_lists import read_styles

    styles = sorted(file.stem for file in folder.glob("*.json"))
    if not styles:
        raise UserError(f"{folder}: a folder without *.json; set evaluation.prompts to a CSV with {', '.join(COLUMNS)}")
    for style, captions in read_styles(folder, styles).items():
        for number, caption in enumerate(captions):
            yield {"prompt_id": f"{style}/{number:05d}", "caption": caption, "split": style}
