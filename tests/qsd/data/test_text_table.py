"""Tables in text files: what a program writes is read back as it was; what a person forgot to quote is named."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qsd.data.text_table import TextTable
from qsd.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "caption,winner,loser\n"
Rows = list[tuple[int, tuple[str, ...] | str]]


def rows(path: Path, content: str | bytes) -> Rows:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(row.line, row.problem or row.cells) for row in TextTable(path).rows()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8")), min_size=3, max_size=3)))
def test_what_a_csv_writer_writes_is_read_back(tmp_path: Path, written: list[list[str]]) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(written)
    read_back = rows(tmp_path / "a.csv", HEADER + stream.getvalue())
    assert read_back == [(number, tuple(cells)) for number, cells in enumerate(written, start=2)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a dog, running,b,c\n", [(2, "wrong_cell_count")]),
        ("a,b\nd,e,f\n", [(2, "wrong_cell_count"), (3, ("d", "e", "f"))]),
        ('a "big" dog,b,c\n', [(2, "stray_quote")]),
        ('"a "big" dog",b,c\n', [(2, "stray_quote")]),
        ('"a sun,b,c\nd,e,f\n', [(2, "stray_quote"), (3, ("d", "e", "f"))]),
        # A closing mark further down would glue two rows to one with the right number of cells.
        ('"a sun,b,c\nd",e,f\ng,h,i\n', [(2, "stray_quote"), (3, "stray_quote"), (4, ("g", "h", "i"))]),
        ('"two\nlines",b,c\n\nd,e,f\n', [(2, ("two\nlines", "b", "c")), (5, ("d", "e", "f"))]),
        ('"a ""big"" dog, red",,\r\nd,e,f', [(2, ('a "big" dog, red', "", "")), (3, ("d", "e", "f"))]),
    ],
)
def test_each_row_is_its_cells_or_a_problem_with_its_line(tmp_path: Path, content: str, expected: Rows) -> None:
    assert rows(tmp_path / "a.csv", HEADER + content) == expected


def test_tabs_leave_quotation_marks_alone(tmp_path: Path) -> None:
    text = 'Prompt\tNote\na sign, "Hello"\t-\n"a ""red"" dog"\t-\n"a\t-\n'
    assert rows(tmp_path / "a.tsv", text) == [
        (2, ('a sign, "Hello"', "-")),
        (3, ('a "red" dog', "-")),
        (4, ('"a', "-")),
    ]


def test_a_cell_may_be_long_and_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    text = f"\ufeff{HEADER}{'word ' * 60_000},b,c\n"
    assert [len(cells[0]) for _, cells in rows(tmp_path / "a.csv", text)] == [300_000]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER.encode() + b"a,b,c\n\xe9t\xe9,b,c\n", r"a\.csv:3: not UTF-8 \(byte 0xe9; is it Latin-1"),
        (HEADER.encode("utf-16"), r"a\.csv:1: UTF-16; save it as UTF-8"),
        (b"caption,winner,winner\n", r"a\.csv:1: column 'winner' is there twice"),
        (b"caption,winner,loser,,\n", r"a\.csv:1: 2 columns have no name; take them out, in every line"),
        (HEADER.encode("utf-16-le"), r"a\.csv:1: a NUL byte, .*; is it UTF-16\? Save it as UTF-8"),
        (HEADER.encode() + b"a,b\0,c\n", r"a\.csv:2: a NUL byte"),
    ],
)
def test_another_encoding_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rows(tmp_path / "a.csv", content)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("caption;winner;loser\n", "separated by semicolons, save it with commas"),
        ("sep=,\ncaption,winner,loser\n", "a line sep= is for Excel alone: take it out"),
    ],
)
def test_what_hides_the_columns_is_named(tmp_path: Path, content: str, hint: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"'caption' .*is missing; .*{hint}"):
        TextTable(path).require(["caption"])
