"""The prompts of an evaluation: a CSV or parquet file with prompt_id, caption, split; or a folder of style lists."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsd.config.once_per_process import OncePerProcess
from qsd.errors import UserError
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from qsd.config.schema import EvaluationConfig

COLUMNS = ("prompt_id", "caption", "split")


@dataclass(frozen=True)
class Prompt:
    """One prompt. ``prompt_id`` decides the initial noise of its images."""

    prompt_id: str
    caption: str
    split: str


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
    path: Path, wanted: Sequence[str], most: int | None = None, field: str = "evaluation.prompts"
) -> list[Prompt]:
    """The first prompts of every wanted split, in the order of the file.

    Args:
        path: CSV, parquet, or folder of style lists.
        wanted: names of splits.
        most: prompts of each split; None: all.
        field: that names the file, for messages.

    Raises:
        UserError: a missing file, column or split, an empty caption, or a duplicate id; with its line.
    """
    by_split: dict[str, list[Prompt]] = {split: [] for split in wanted}
    lines_by_id: dict[str, int] = {}
    splits: set[str] = set()
    for line, row in _rows(path, field):
        prompt = Prompt(*(str(row[column] or "").strip() for column in COLUMNS))
        if not prompt.prompt_id or not prompt.caption:
            empty = "caption" if prompt.prompt_id else "prompt_id"
            raise UserError(f"{path}:{line}: the {empty} is empty")
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
    for split, prompts in by_split.items():
        if not prompts:
            raise UserError(
                f"{path}: no prompt of split {split!r}{suggest(split, splits)}; it has {', '.join(sorted(splits))} "
                f"(set {field.partition('.')[0]}.splits)"
            )
    return [prompt for prompts in by_split.values() for prompt in prompts]


def _rows(path: Path, field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their line number (CSV) or row number (parquet, lists), from 1."""
    if path.is_dir():
        yield from enumerate(_of_styles(path), start=1)
        return
    if not path.is_file():
        raise UserError(f"{path}: no such file; set {field} to a CSV with {', '.join(COLUMNS)}")
    if path.suffix == ".parquet":
        from qsd.files import read_table

        yield from enumerate(read_table(path, list(COLUMNS)).to_pylist(), start=1)
        return
    with path.open(encoding="utf-8-sig", newline="") as stream:  # a spreadsheet may put a byte order mark first
        reader = csv.DictReader(stream)
        try:
            _check_columns(path, reader.fieldnames or ())
            for row in reader:
                yield reader.line_num, row
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}:{reader.line_num + 1}: no CSV in UTF-8 ({error}); save it as such") from None


def _of_styles(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of the HPS v2 benchmark's lists: the style is the split; style and position in the list are the id."""
    from qsd.evaluation.hps_benchmark import read_styles

    styles = sorted(file.stem for file in folder.glob("*.json"))
    if not styles:
        raise UserError(f"{folder}: a folder without *.json; set evaluation.prompts to a CSV with {', '.join(COLUMNS)}")
    for style, captions in read_styles(folder, styles).items():
        for number, caption in enumerate(captions):
            yield {"prompt_id": f"{style}/{number:05d}", "caption": caption, "split": style}


def _check_columns(path: Path, present: Iterable[str]) -> None:
    missing = [column for column in COLUMNS if column not in present]
    if missing:
        raise UserError(f"{path}:1: column {missing[0]!r} is missing; needed: {', '.join(COLUMNS)}")
