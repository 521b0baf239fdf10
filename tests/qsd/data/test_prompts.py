"""The prompts of an evaluation: every layout that people have, and mistakes that would lose or change a prompt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qsd.data.prompts import read_splits
from qsd.errors import UserError

HEADER = "prompt_id,caption,split\n"


def read(path: Path, content: str | bytes) -> list[tuple[str, str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(prompt.prompt_id, prompt.caption) for prompt in read_splits(path, ["evaluation"])]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", f'\ufeff{HEADER}00000,"a sun, red",evaluation\n00001,a moon,seen\n'),
        ("a.txt", "a sun, red\n\n"),
        ("a.csv", 'caption\n"a sun, red"\n'),
        ("a.tsv", "Prompt\tCategory\tChallenge\tNote\na sun, red\tAbstract\tBasic\t-\n"),
        ("a.tsv", "prompt_id\tcaption\tsplit\n00000\ta sun, red\tevaluation\n"),
    ],
)
def test_layouts(tmp_path: Path, name: str, content: str) -> None:
    assert read(tmp_path / name, content) == [("00000", "a sun, red")]


def test_categories_are_kept_where_a_file_has_them(tmp_path: Path) -> None:
    table = f"{HEADER.strip()},category,note\n1,a sun,evaluation, Sky  things ,x\n2,a moon,evaluation,,y\n"
    (tmp_path / "a.csv").write_text(table)
    (tmp_path / "a.tsv").write_text(
        "Prompt\tCategory\tChallenge\tNote\na sun\tSky things\tBasic\t-\na moon\t\tBasic\t-\n"
    )
    columns = {"prompt_id": ["1", "2"], "caption": ["a sun", "a moon"], "split": ["evaluation"] * 2}
    pq.write_table(pa.table({**columns, "category": ["Sky things", None]}), tmp_path / "a.parquet")
    for name in ("a.csv", "a.tsv", "a.parquet"):
        prompts = read_splits(tmp_path / name, ["evaluation"])
        assert [prompt.category for prompt in prompts] == ["Sky things", ""], name
    pq.write_table(pa.table({**columns, "category": [7, 8]}), tmp_path / "a.parquet")
    assert [prompt.category for prompt in read_splits(tmp_path / "a.parquet", ["evaluation"])] == ["7", "8"]
    pq.write_table(pa.table({**columns, "category": [["a"], ["b"]]}), tmp_path / "a.parquet")
    assert [prompt.category for prompt in read_splits(tmp_path / "a.parquet", ["evaluation"])] == ["", ""]


def test_ids_of_prompts_alone_are_their_places(tmp_path: Path) -> None:
    assert read(tmp_path / "a.txt", "a\n \nb\na\n") == [("00000", "a"), ("00001", "b"), ("00002", "a")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{HEADER}q1,a dog, running,evaluation\n", r"a\.csv:2: 4 cells instead of 3: .* in double quotes"),
        (f"{HEADER}q1,a dog\n", r"a\.csv:2: 2 cells instead of 3"),
        (
            f'{HEADER}1,"a sun,evaluation\n2,a moon,evaluation\n3,a "big" star,evaluation\n',
            r"a\.csv:2: a quotation mark",
        ),
        (f'{HEADER}1,a sun,evaluation\n2,a "big" star,evaluation\n', r"a\.csv:3: a quotation mark inside a cell"),
        (f'{HEADER}1,"a, sun,evaluation\n2,a moon",evaluation\n', r"a\.csv:2: a line break inside quotation marks"),
        (HEADER.encode() + b"1,a caf\xe9,evaluation\n", r"a\.csv:2: not UTF-8 \(byte 0xe9"),
        ("caption\na dog, running\n", r"a\.csv:2: 2 cells instead of 1"),
        ("caption,split\na,evaluation\n", r"a\.csv:1: column 'prompt_id' is missing"),
        ("", r"a\.csv:1: column 'prompt_id' is missing; the first line has nothing"),
        (f"{HEADER}1,a sun,evaluation\n2,a moon,\n", r"a\.csv:3: the split is empty"),
        (f"{HEADER}1,a sun,evaluation\n2,a moon,Evaluation \n", "splits 'Evaluation' and 'evaluation'; write them the"),
    ],
)
def test_no_prompt_is_lost_or_changed_silently(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.csv", content)


@pytest.mark.parametrize("content", ["a sun\nid\tcaption\n", f"{HEADER}1,a sun,evaluation\n"])
def test_a_table_that_a_program_called_txt_is_no_list_of_prompts(tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match=r"a\.txt:\d: a table, but a \.txt has a prompt on each line; name it \.csv"):
        read(tmp_path / "a.txt", content)


def test_ids_that_pandas_made_floats_are_the_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"caption": ["a", "b"], "split": ["evaluation"] * 2}
    pq.write_table(pa.table({**columns, "prompt_id": [7.0, 12.0]}), path)
    assert [prompt.prompt_id for prompt in read_splits(path, ["evaluation"])] == ["7", "12"]
    pq.write_table(pa.table({**columns, "prompt_id": [7.0, float("nan")]}), path)
    with pytest.raises(UserError, match=r"a\.parquet:2: the prompt_id is empty"):
        read_splits(path, ["evaluation"])


def test_a_parquet_file_names_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"prompt_id": pa.array([0, 1]), "split": pa.array(["evaluation", "seen"])}
    pq.write_table(pa.table({**columns, "Prompt": ["a", "b"]}), path)
    with pytest.raises(
        UserError, match=r"a\.parquet: column 'caption' .* is missing; it has prompt_id, split, Prompt$"
    ):
        read_splits(path, ["evaluation"])
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        pq.write_table(pa.table({**columns, "caption": pa.array(["a", "b"], kind)}), path)
        assert [(prompt.prompt_id, prompt.caption) for prompt in read_splits(path, ["evaluation"])] == [("0", "a")]
    pq.write_table(pa.table({"caption": ["a"]}), path)
    assert read_splits(path, ["evaluation"])[0].prompt_id == "00000"
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match="not a readable parquet file") as refused:
        read_splits(path, ["evaluation"])
    assert "delete" not in str(refused.value)


def test_reading_text_imports_no_large_library(tmp_path: Path) -> None:
    """Planning reads the prompts, and is quick."""
    (tmp_path / "a.tsv").write_text("Prompt\tNote\na\t-\n")
    code = (
        "import sys; from pathlib import Path; from qsd.data.prompts import read_splits; "
        f"read_splits(Path({str(tmp_path / 'a.tsv')!r}), ['evaluation']); "
        "sys.exit(bool({'torch', 'pandas', 'pyarrow', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
