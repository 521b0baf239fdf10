"""``data.only``: rows whose cell is false are left out and counted; a column that cannot say so is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qsd.config.load import defaults, override
from qsd.data.only import check_column, used_rows
from qsd.errors import UserError
from qsd.files import read_table
from qsd.stages import spec
from qsd.stages.data import run as data
from tests.qsd import tiny_world

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNT = 6
USED = [True, False, True, True, False, True]


def pictures(folder: Path) -> list[tuple[str, ...]]:
    """Caption, winner and loser of some rows, whose files are there."""
    (folder / "images").mkdir()
    rows = []
    for number, row in enumerate(tiny_world.good_rows(COUNT)):
        names = [f"images/{number}-{side}.png" for side in (0, 1)]
        for side, name in enumerate(names):
            (folder / name).write_bytes(row[f"jpg_{side}"])
        rows.append((f"picture {number}", *names))
    return rows


def write(folder: Path, kind: str, cells: Sequence[Any] = USED) -> tuple[str, Path]:
    """Reader and path of a list with the column ``good``."""
    if kind == "pickapic":
        rows = [{**row, "good": cell} for row, cell in zip(tiny_world.good_rows(COUNT), cells, strict=True)]
        pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet", row_group_size=4)
        return "pickapic", folder / "pairs.parquet"
    reader, ending = kind.split(".")
    rows = [
        {"caption": caption, "winner": winner, "loser": loser, "good": cell}
        for (caption, winner, loser), cell in zip(pictures(folder), cells, strict=True)
    ]
    path = folder / f"pairs.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "\t" if ending == "tsv" else ","
        path.write_text("\n".join([mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]) + "\n")
    return reader, path


KINDS = ("pickapic", "own_pairs.csv", "own_pairs.parquet", "table.csv", "table.tsv", "table.jsonl", "table.parquet")


def stage(reader: str, path: Path, output: Path, **settings: Any) -> tuple[list[int], dict[str, Any]]:
    """Source rows of the pairs of a data stage, and its summary."""
    config = tiny_world.config(path, path.parent / "rewards", **{"data__reader": reader, **settings})
    data.run(tiny_world.context(config, output))
    return (
        [int(row) for row in read_table(output / "pairs.parquet")["source_row"].to_numpy()],
        json.loads((output / "summary.json").read_text()),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_false_are_left_out_and_counted(tmp_path: Path, kind: str) -> None:
    reader, path = write(tmp_path, kind)
    check_column(reader, path, "good")
    rows, summary = stage(reader, path, tmp_path / "some", data__only="good")
    assert rows == [row for row, used in enumerate(USED) if used]
    assert (summary["only"], summary["left_out"], summary["pairs"], summary["refused"]) == ("good", 2, 4, 0)
    problems = json.loads((tmp_path / "some" / "problems.json").read_text())
    assert problems["left_out"]["count"] == len(problems["left_out"]["ids"]) == 2
    rows, summary = stage(reader, path, tmp_path / "all")
    assert rows == list(range(COUNT))
    assert "left_out" not in summary


def test_the_first_rows_are_counted_before_the_filter(tmp_path: Path) -> None:
    reader, path = write(tmp_path, "pickapic")
    rows, summary = stage(reader, path, tmp_path / "some", data__only="good", data__max_rows=3)
    assert rows == [0, 2]
    assert summary["left_out"] == 1


def test_damaged_rows_that_are_left_out_are_no_damage_and_the_bound_is_of_the_others(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{**row, "good": number < 2} for number, row in enumerate(tiny_world.good_rows(COUNT))]
    rows[3]["jpg_0"] = b"no image"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    assert stage("pickapic", tmp_path / "pairs.parquet", tmp_path / "out", data__only="good")[0] == [0, 1]
    rows[1]["jpg_0"] = b"no image"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    with pytest.raises(UserError, match="1 of 2 refused"):
        stage(
            "pickapic",
            tmp_path / "pairs.parquet",
            tmp_path / "again",
            data__only="good",
            data__max_rejected_fraction=0.4,
        )


def test_a_folder_of_shards_has_the_column_in_each(tmp_path: Path) -> None:
    rows = [{**row, "good": used} for row, used in zip(tiny_world.good_rows(COUNT), USED, strict=True)]
    for number in range(2):
        part = pa.Table.from_pylist(rows[3 * number : 3 * number + 3])
        pq.write_table(part, tmp_path / f"train-0000{number}-of-00002.parquet")
    assert used_rows("pickapic", tmp_path, "good") == USED
    pq.write_table(part.drop_columns(["good"]), tmp_path / "train-00001-of-00002.parquet")
    for check in (check_column, used_rows):
        with pytest.raises(UserError, match=r"00001-of-00002\.parquet: column 'good' of data\.only is not there"):
            check("pickapic", tmp_path, "good")


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_not_there_is_refused_with_file_and_column(tmp_path: Path, kind: str) -> None:
    reader, path = write(tmp_path, kind)
    for check in (check_column, used_rows):
        with pytest.raises(UserError) as caught:
            check(reader, path, "goood")
        assert str(caught.value).startswith(str(path))
        assert "column 'goood' of data.only (did you mean 'good'?) is not there; it has " in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "cell", "words"),
    [
        ("table.csv", "1", ":5: column 'good' of data.only must be true or false, not '1'"),
        ("table.csv", "", ":5: column 'good' of data.only must be true or false, not empty"),
        ("own_pairs.csv", "yes", ":5: column 'good' of data.only must be true or false, not 'yes'"),
        ("table.jsonl", 1, ":4: column 'good' of data.only must be true or false, not 1"),
        ("table.jsonl", None, ":4: column 'good' of data.only must be true or false, not null"),
        ("table.parquet", None, ": row 3: column 'good' of data.only must be true or false, not null"),
        ("pickapic", None, ": row 3: column 'good' of data.only must be true or false, not null"),
    ],
)
def test_a_cell_that_is_neither_is_refused_with_its_row(tmp_path: Path, kind: str, cell: Any, words: str) -> None:
    reader, path = write(tmp_path, kind, [*USED[:3], cell, *USED[4:]])
    with pytest.raises(UserError) as caught:
        stage(reader, path, tmp_path / "out", data__only="good")
    assert str(caught.value) == f"{path}{words}"


def test_a_column_of_another_type_is_refused_before_anything_runs(tmp_path: Path) -> None:
    reader, path = write(tmp_path, "pickapic")
    for check in (check_column, used_rows):
        with pytest.raises(UserError, match=r"column 'caption' of data\.only must hold true or false, not string"):
            check(reader, path, "caption")
    values = override(defaults(), {**tiny_world.REQUIRED, "data.path": str(path), "data.only": "caption"})
    with pytest.raises(UserError, match=r"data\.only must hold true or false"):
        spec.stage_meaning("data", values)


def test_a_layout_without_such_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text("[]")
    with pytest.raises(
        UserError, match=r"data\.only is 'good', but rows of data\.reader hpd_v2 are not rows of a table"
    ):
        check_column("hpd_v2", path, "good")


def test_a_filter_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    reader, path = write(tmp_path, "pickapic", [False] * COUNT)
    with pytest.raises(UserError, match=r"column 'good' of data\.only is false in all 6 rows"):
        stage(reader, path, tmp_path / "out", data__only="good")


def test_a_line_that_is_no_row_keeps_its_own_problem(tmp_path: Path) -> None:
    reader, path = write(tmp_path, "table.csv")
    path.write_text(path.read_text() + 'a "stray mark,a.png,b.png,false\n')
    config = {"data__only": "good", "data__max_rejected_fraction": 0.5}
    rows, summary = stage(reader, path, tmp_path / "out", **config)
    assert len(rows) == 4
    assert (summary["left_out"], summary["refused"]) == (2, 1)


@pytest.mark.parametrize("kind", ["pickapic", "table.csv"])
def test_the_opinion_of_a_judge_goes_with_the_pairs(tmp_path: Path, kind: str) -> None:
    reader, path = write(tmp_path, kind)
    stage(reader, path, tmp_path / "out", data__judge_agrees="good")
    pairs = read_table(tmp_path / "out" / "pairs.parquet")
    agrees = dict(zip(pairs["source_row"].to_pylist(), pairs["judge_agrees"].to_pylist(), strict=True))
    assert agrees == dict(enumerate(USED))
    stage(reader, path, tmp_path / "without")
    assert "judge_agrees" not in read_table(tmp_path / "without" / "pairs.parquet").column_names
    with pytest.raises(UserError, match=r"column 'better' of data\.judge_agrees is not there"):
        stage(reader, path, tmp_path / "wrong", data__judge_agrees="better")


def test_all_rows_are_in_no_key_and_a_column_is_in_that_of_the_data_alone(tmp_path: Path) -> None:
    _, path = write(tmp_path, "pickapic")
    values = override(defaults(), {**tiny_world.REQUIRED, "data.path": str(path)})
    assert values["data.only"] is None
    assert not {"data.only", "data.judge_agrees"} & set(spec.stage_meaning("data", values))
    assert spec.stage_meaning("data", {**values, "data.only": "good"})["data.only"] == "good"


def test_the_emoji_world_says_which_labels_follow_its_judge() -> None:
    """73.4 % of the labels, as its model card says; its 251 ties follow the judge, too, and are no pairs."""
    used = used_rows("pickapic", Path("experiments/emoji/assets/pairs.parquet"), "follows_judge")
    assert len(used) == 3000
    assert 100 * (sum(used) - 251) / (3000 - 251) == pytest.approx(73.4, abs=0.1)
