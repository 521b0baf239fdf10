"""``qsd data describe`` and ``qsd data validate``: what they say of good and bad data, and how they end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from qsd import cli
from qsd.data.describe import Description, describe
from qsd.data.opening import open_path
from qsd.runtime import silent
from tests.qsd import tiny_lists as lists
from tests.qsd.tiny_world import picture

if TYPE_CHECKING:
    from pathlib import Path


def qsd(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit status of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["qsd", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    return int(exit_info.value.code or 0)


def described(path: Path) -> tuple[Description, str]:
    description = describe(open_path(path)[1], 2, silent)
    return description, "\n".join(description.lines())


def test_duplicates_are_found_by_content(tmp_path: Path) -> None:
    rows = lists.own_rows(tmp_path, lists.some_pairs(5))
    copy = lists.put(tmp_path, (tmp_path / rows[0]["winner"]).read_bytes(), "copy.jpg")
    rows.append({**rows[0], "winner": copy})  # the same pair: its image has another name
    rows.append({**rows[1], "winner": rows[1]["loser"], "loser": rows[1]["winner"]})
    description, text = described(lists.write_csv(tmp_path / "mine.csv", rows))
    assert description.rows == 7
    assert len(description.pairs) == 6
    assert description.problems == {"duplicate_pair": 1}
    assert "opposite opinions   1 " in text
    assert "copies " not in text  # a name that only a refused row has is not counted
    rows[5]["caption"] = "another"
    description, text = described(lists.write_csv(tmp_path / "mine.csv", rows))
    assert "unique images     8 in 14 places" in text
    assert "copies              1 (same content under another name)" in text


def test_resolutions_captions_and_annotators_are_told(tmp_path: Path) -> None:
    pairs = [
        lists.Pair("a " * (80 if number == 3 else number + 1), picture(number, 20 + number, 30), picture(90 + number))
        for number in range(9)
    ]
    rows = [{**row, "annotator": "me" if number else ""} for number, row in enumerate(lists.own_rows(tmp_path, pairs))]
    _, text = described(lists.write_csv(tmp_path / "mine.csv", rows))
    assert "32 x 32             9" in text
    assert "5 further sizes; shorter side 20 to 32, median 32" in text
    assert "words               1 to 80, median 6" in text
    assert "over 75 words       1 (CLIP cuts them)" in text
    assert "annotators        1, the busiest with 8 pairs" in text


def test_annotators_of_rankings_are_counted_with_their_agreement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert qsd(monkeypatch, "data", "describe", lists.hpd_published(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert "annotators        3, 3 per group on 2 groups\n  agreement           55.56% (one annotator" in printed


def test_validate_lists_what_is_wrong_and_exits_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lists.own_rows(tmp_path, lists.some_pairs(5))
    path = lists.write_csv(tmp_path / "mine.csv", rows)
    assert qsd(monkeypatch, "data", "validate", path) == 0
    assert "5 pairs in 5 rows; no damage" in capsys.readouterr().out
    rows[1]["winner"] = "pictures/none.jpg"
    rows[2]["caption"] = ""
    rows.append(rows[0])
    lists.write_csv(path, rows)
    assert qsd(monkeypatch, "data", "validate", path, "--reader", "own_pairs") == 1
    shown = capsys.readouterr().out.splitlines()
    images = f"{rows[0]['winner']}, {rows[0]['loser']}"
    assert shown[0] == "duplicate_pair: 1 (the same caption, winner and loser came before)"
    assert shown[1] == f"  line-7 ({images})"
    assert shown[2].startswith("empty_caption: 1")
    assert shown[4] == "missing_image: 1 (no such file, or no bytes in it)"
    assert shown[5].startswith("  line-3 (pictures/none.jpg, ")
    assert shown[6] == "3 pairs in 6 rows; 3 damaged (50.00 %)"
    assert shown[7] == f"{path}: not valid, read as own_pairs"


def test_ties_are_no_damage_but_nothing_else_is_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [lists.put(tmp_path, picture(number)) for number in range(3)]
    item = {"prompt": "a", "image_path": names, "rank": [1, 1, 2]}
    assert qsd(monkeypatch, "data", "validate", lists.write_list(tmp_path / "test.json", [item])) == 0
    assert "tie: 1 (both images were liked equally: no pair, and no damage)" in capsys.readouterr().out
    item["rank"] = [1, 1, 1]
    assert qsd(monkeypatch, "data", "validate", lists.write_list(tmp_path / "test.json", [item])) == 1
    assert "0 pairs in 3 rows; nothing to train on" in capsys.readouterr().out
    assert qsd(monkeypatch, "data", "validate", tmp_path / "none.json") == 2


def test_describe_names_the_reader_that_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for layout in ("hpd_v2 train, zip", "image_reward metadata"):
        path = lists.LAYOUTS[layout](tmp_path / layout, lists.some_pairs())
        assert qsd(monkeypatch, "data", "describe", path, "--threads", 2) == 0
        shown = capsys.readouterr().out
        assert f"reader            {layout.split()[0]}\n" in shown
        assert "pairs             6\n" in shown
