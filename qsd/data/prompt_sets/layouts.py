"""The layouts in which prompt sets are published: files -> prompts, in the order of the files.

A prompt that is read wrongly would be another prompt, and one left out would shift the ids of all that follow, so a
line that does not fit is an error with its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.data.prompt_sets.prompt_set import ONLY_SPLIT, SetPrompt
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_PARTI = ("Prompt", "Category", "Challenge", "Note")
DRAWBENCH = (
    "Colors",
    "Conflicting",
    "Counting",
    "DALL-E",
    "Descriptions",
    "Gary Marcus et al.",
    "Misspellings",
    "Positional",
    "Rare Words",
    "Reddit",
    "Text",
)
"""DrawBench's categories, in the order of the numbers that stand for them."""


def parti_table(files: Sequence[Path]) -> Iterator[SetPrompt]:
    """PartiPrompts' table with tabs: Prompt, Category, Challenge, Note.

    Raises:
        UserError: other columns, or a line that is no row.
    """
    from qsd.data.text_table import PROBLEMS, TextTable

    (path,) = files
    table = TextTable(path)
    if tuple(table.header) != _PARTI:
        raise _other_layout(path, 1, f"the columns {', '.join(_PARTI)}", ", ".join(table.header))
    rows = []
    for row in table.rows():
        if row.problem:
            raise UserError(f"{path}:{row.line}: {PROBLEMS[row.problem]}")
        rows.append((row.line, row.cells[0], row.cells[1]))
    yield from _numbered(path, rows)


def text_file(files: Sequence[Path]) -> Iterator[SetPrompt]:
    """A prompt on each line.

    Raises:
        UserError: an empty line.
    """
    from qsd.data.text_table import text_lines

    (path,) = files
    yield from _numbered(path, ((line, text, "") for line, text in text_lines(path)))


def drawbench_table(files: Sequence[Path]) -> Iterator[SetPrompt]:
    """A parquet file with ``prompts`` and ``category``, the number of one of ``DRAWBENCH``.

    Raises:
        UserError: other columns, or a number that stands for no category.
    """
    from qsd.data.parquet import check_columns, is_numeric, is_text, open_parquet, stream

    (path,) = files
    file = open_parquet(path)
    rows: list[tuple[int, Any, str]] = []
    check_columns(path, file.schema_arrow, {"prompts": (is_text, "text"), "category": (is_numeric, "a number")})
    for group in range(file.metadata.num_row_groups):
        for batch in stream(file, path, group, ("prompts", "category"), 1024, len(rows)):
            for row in batch:
                number = row["category"]
                if type(number) is not int or not 0 <= number < len(DRAWBENCH):
                    raise _other_layout(path, len(rows) + 1, f"a category from 0 to {len(DRAWBENCH) - 1}", repr(number))
                rows.append((len(rows) + 1, row["prompts"], DRAWBENCH[number]))
    yield from _numbered(path, rows)


def geneval_lines(files: Sequence[Path]) -> Iterator[SetPrompt]:
    """GenEval's JSON lines: ``prompt``, and in ``tag`` the task, which is the category.

    Raises:
        UserError: a line without either.
    """
    from qsd.data.json_lines import json_lines

    (path,) = files
    rows = []
    for line, item in json_lines(path):
        for key in ("prompt", "tag"):
            if not isinstance(item.get(key), str):
                raise _other_layout(path, line, f"text in '{key}'", repr(item.get(key)))
        rows.append((line, item["prompt"], item["tag"]))
    yield from _numbered(path, rows)


def hpd_rankings(files: Sequence[Path]) -> Iterator[SetPrompt]:
    """The prompts of HPD v2's ``test.json``, a JSON list of rankings with ``prompt``.

    Raises:
        UserError: an item without a prompt.
    """
    from qsd.data.json_list import read_list

    (path,) = files
    rows: list[tuple[int, Any, str]] = []
    for number, item in enumerate(read_list(path, dict), start=1):
        if not isinstance(item.get("prompt"), str):
            raise _other_layout(path, number, "text in 'prompt'", repr(item.get("prompt")))
        rows.append((number, item["prompt"], ""))
    yield from _numbered(path, rows)


def style_lists(files: Sequence[Path]) -> Iterator[SetPrompt]:
    """A JSON list of texts per style, named after it: the style is split and category, as of a folder of such lists.

    Raises:
        UserError: a list without prompts, or with an empty one.
    """
    from qsd.data.style_lists import read_styles

    for path in files:
        for style, captions in read_styles(path.parent, [path.stem]).items():
            for number, caption in enumerate(captions):
                yield SetPrompt(f"{style}/{number:05d}", _on_one_line(caption), style, style)


def _numbered(path: Path, rows: Iterable[tuple[int, Any, str]]) -> Iterator[SetPrompt]:
    """Prompts of (line, caption, category), whose ids are their places, from 00000, as of a file of prompts alone."""
    for number, (line, caption, category) in enumerate(rows):
        text = _on_one_line(caption) if isinstance(caption, str) else ""
        if not text:
            raise _other_layout(path, line, "a prompt", "nothing")
        yield SetPrompt(f"{number:05d}", text, ONLY_SPLIT, category)


def _on_one_line(caption: str) -> str:
    """A caption without space at its ends, with a space for a line break: a table of prompts has each on one line."""
    return " ".join(caption.splitlines()).strip()


def _other_layout(path: Path, line: int, expected: str, actual: str) -> UserError:
    return UserError(
        f"{path}:{line}: expected {expected}, found {actual[:80]}; this is not the layout that was published: fetch "
        "it again"
    )
