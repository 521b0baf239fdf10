"""Reader ``table``: which column is what, by its own name or by ``data.columns``; and reader ``hpdv3``'s checks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qsd.config.load import load_flat
from qsd.data.opening import open_path, opened
from qsd.data.readers import REGISTRY
from qsd.data.readers.table import column_names
from qsd.errors import UserError
from qsd.stages.data import spec as data_spec
from qsd.stages.stage_spec import section
from tests.qsd import tiny_lists as lists

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = {"caption": "text", "winner": "good", "loser": "bad", "annotator": "who"}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSON lines, CSV or parquet, by the ending of the path."""
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rows_of(folder: Path, names: dict[str, str]) -> list[dict[str, Any]]:
    """Three pairs under some names of columns, and a column that is not read."""
    return [
        {
            names["caption"]: f"a picture {number}",
            names["winner"]: lists.put(folder, pair.winner),
            names["loser"]: lists.put(folder, pair.loser),
            names["annotator"]: f"anna{number}",
            "prompt_source": "web",
        }
        for number, pair in enumerate(lists.some_pairs(3))
    ]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_columns_of_any_name(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"mine.{ending}", rows_of(tmp_path, COLUMNS))
    name, source = open_path(path, columns=COLUMNS)
    assert name == "table"
    pairs = lists.some_pairs(3)
    rows = list(source.rows(0, 3))
    assert [(row.caption, row.winner, row.loser, row.annotator) for row in rows] == [
        (f"a picture {number}", pair.winner, pair.loser, f"anna{number}") for number, pair in enumerate(pairs)
    ]
    assert source.image_bytes(2) == pairs[2][1:]


def test_some_columns_named_and_others_known(tmp_path: Path) -> None:
    """A given name goes before a known one: here ``prompt`` is there too, and is not the caption."""
    names = {"caption": "text", "winner": "chosen", "loser": "rejected", "annotator": "annotator"}
    rows = [{**row, "prompt": "not this"} for row in rows_of(tmp_path, names)]
    _, source = open_path(write(tmp_path / "mine.jsonl", rows), columns={"caption": "text"})
    assert [row.caption for row in source.rows(0, 3)] == ["a picture 0", "a picture 1", "a picture 2"]


@pytest.mark.parametrize(
    ("present", "given", "words"),
    [
        (
            ["text", "winner", "loser"],
            {},
            "no column 'caption' or 'prompt'; it has text, winner, loser; name the column",
        ),
        (["caption", "prompt", "winner", "loser"], {}, "'caption' and 'prompt' could both be the caption; say which"),
        (["caption", "chosen", "winner", "loser"], {}, r"data\.columns\.winner"),
        (
            ["caption", "good", "bad"],
            {"winner": "godd", "loser": "bad"},
            r"column 'godd' \(did you mean 'good'\?\) of data\.columns\.winner is not there; it has caption, good, bad",
        ),
        (
            ["caption", "winner", "loser"],
            {"annotator": "who"},
            r"column 'who' of data\.columns\.annotator is not there",
        ),
        (
            ["caption", "winner", "loser"],
            {"loser": "winner"},
            "'winner' is both the winner and the loser; name another",
        ),
        ([], {}, "it has nothing"),
    ],
)
def test_what_cannot_be_told_is_refused(present: list[str], given: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        column_names("pairs.csv", present, given)


def test_columns_of_a_layout_that_has_its_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"data\.columns\.caption is given, but data\.reader hpd_v2 .* data\.reader: table"
    ):
        opened("hpd_v2", tmp_path / "train.json", {"caption": "text"})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "a", "chosen": "x"}', r":2: 'rejected' \(the loser\) is missing; it has prompt, chosen"),
        ('{"prompt": "a", "chosen": 3, "rejected": "y"}', r":2: 'chosen' \(the winner\) must be text or null, not 3"),
        ('{"prompt": "a", "chosen": "x", "rejected": "y"', ":2: not readable as JSON.*one object on each line"),
        ('{"prompt": "a", "prompt": "b"}', ":2: not readable as JSON, 'prompt' is there twice"),
        ("[1, 2]", r":2: must be an object \{…\}, not \[1, 2\]"),
        (
            '{"prompt": "a", "chosen": "x", "rejected": "y", "annotator": "z"}',
            ":2: has 'annotator', which the first line has not",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(f'{{"prompt": "a", "chosen": "x.png", "rejected": "y.png"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(UserError, match=words):
        open_path(path)


def test_an_experiment_names_columns(tmp_path: Path) -> None:
    """Nested or dotted; they enter the key of the data stage, and a key without them is as before."""
    required = "model.path: m\nreward: {model: jpeg_size, weights: w}\ntraining: {steps: 1, learning_rate: 1}\n"
    required += "training.pairs_per_step: 1\nevaluation: {prompts: p, scorers: [jpeg_size]}\n"
    texts = ("data: {path: d, columns: {caption: text, winner: good}}\n", "data.path: d\ndata.columns.caption: text\n")
    for place, text in enumerate(texts):
        path = tmp_path / f"{place}.yaml"
        path.write_text(required + text, encoding="utf-8")
        values = load_flat(path)
        assert dict(data_spec.columns_of(values))["caption"] == "text"
        assert set(section("data.columns")) <= set(data_spec.STAGE.reads(values))
    (tmp_path / "bad.yaml").write_text(f"{required}data: {{path: d, columns: {{capton: text}}}}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"unknown key 'data\.columns\.capton' \(did you mean 'data\.columns\.caption'"):
        load_flat(tmp_path / "bad.yaml")


def test_a_wrong_ending_is_named(tmp_path: Path) -> None:
    (tmp_path / "pairs.xlsx").write_text("")
    with pytest.raises(
        UserError, match=r"another format; give a table that ends with \.csv, \.tsv, \.jsonl, \.parquet"
    ):
        open_path(tmp_path / "pairs.xlsx", "table")


# ── HPD v3 ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"confidence": "high"}, "item 1: 'confidence' must be a number that is not negative, or null, not 'high'"),
        ({"confidence": -0.5}, "item 1: 'confidence' must be"),
        ({"confidence": True}, "item 1: 'confidence' must be"),
        ({"path1": ["a"]}, "item 1: 'path1' must be text"),
        ({"model2": 3}, "item 1: 'model2' must be text"),
    ],
)
def test_every_field_of_hpdv3_is_checked(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = lists.hpdv3(tmp_path / "set", lists.some_pairs(3))
    items = json.loads(path.read_text())
    items[1] |= change
    with pytest.raises(UserError, match=words):
        open_path(lists.write_list(path, items))


@pytest.mark.parametrize("key", ["prompt", "path1", "path2", "model1", "model2"])
def test_no_field_of_hpdv3_may_be_missing(tmp_path: Path, key: str) -> None:
    path = lists.hpdv3(tmp_path / "set", lists.some_pairs(3))
    items = json.loads(path.read_text())
    del items[1][key]
    with pytest.raises(UserError, match=f"item 1: '{key}'.*is missing"):
        open_path(lists.write_list(path, items), "hpdv3")


def test_the_confidence_of_hpdv3_is_described(tmp_path: Path) -> None:
    path = lists.hpdv3(tmp_path / "set", lists.some_pairs(6))
    describe = REGISTRY.get("hpdv3").annotators
    assert describe is not None
    assert list(describe(path)) == [
        "confidence        stated of 3 pairs: 0.9 to 0.94, median 0.92, 0 at least 0.95; selects nothing"
    ]
