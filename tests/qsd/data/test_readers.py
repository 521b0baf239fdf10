"""Every layout gives the same pairs; damage is found in each of them, named, and never replaced."""

from __future__ import annotations

import json
import os
import time
import zipfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qsd.config.load import defaults
from qsd.data.examine import REASONS
from qsd.data.json_list import read_list
from qsd.data.opening import open_path
from qsd.data.pairs import image_uid, pair_id
from qsd.data.readers import REGISTRY
from qsd.errors import UserError
from qsd.stages.data import run as data
from qsd.stages.data import spec as data_spec
from qsd.stages.spec import stage_meaning
from tests.qsd import tiny_lists as lists
from tests.qsd.tiny_world import config, context, picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.qsd.tiny_lists import Pair

Problems = dict[str, dict[str, Any]]


def run(path: Path, reader: str, most: float = 1.0) -> tuple[list[dict[str, Any]], Problems]:
    """Pairs and problems of the data stage."""
    number = len(list(path.parent.parent.glob("out-*")))
    output = path.parent.parent / f"out-{number}"
    settings = config(path, path, data__reader=reader, data__max_rejected_fraction=most)
    data.run(context(settings, output))
    return pq.read_table(output / "pairs.parquet").to_pylist(), json.loads((output / "problems.json").read_text())


def ids(pairs: list[Pair]) -> list[str]:
    return [pair_id(pair.caption, image_uid(pair.winner), image_uid(pair.loser)) for pair in pairs]


@pytest.mark.parametrize("layout", lists.LAYOUTS)
def test_the_same_pairs_have_the_same_ids_in_every_layout(layout: str, tmp_path: Path) -> None:
    pairs = lists.some_pairs()
    path = lists.LAYOUTS[layout](tmp_path / "set", pairs)
    reader = layout.split()[0]
    kept, problems = run(path, reader, most=0)
    assert [pair["pair_id"] for pair in kept] == ids(pairs)
    assert problems == {}
    name, source = open_path(path)
    assert name == reader
    for pair in reversed(kept):
        number = [row["pair_id"] for row in kept].index(pair["pair_id"])
        assert source.image_bytes(pair["source_row"]) == pairs[number][1:]
    with pytest.raises(UserError, match="row 6"):
        source.image_bytes(6)


@pytest.mark.slow
def test_annotators_are_kept_where_there_are_some(tmp_path: Path) -> None:
    pairs = lists.some_pairs()
    expected = {"pickapic": 3, "hpd_v2 train": 3, "hpd_v2 test": 0, "image_reward rankings": 0, "own_pairs csv": 2}
    for layout, count in expected.items():
        kept, _ = run(lists.LAYOUTS[layout](tmp_path / layout / "set", pairs), layout.split()[0])
        assert len({pair["annotator_id"] for pair in kept} - {None}) == count, layout


# ── rankings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("reader", ["hpd_v2", "image_reward"])
def test_a_ranking_becomes_all_its_pairs_and_equal_ranks_are_ties(tmp_path: Path, reader: str) -> None:
    pictures = [picture(number) for number in range(4)]
    folder = tmp_path / "set"
    names = [lists.put(folder, data) for data in pictures]
    ranks = [2.5, 1, 4, 2.5]
    if reader == "hpd_v2":
        item: dict[str, Any] = {"prompt": "four", "image_path": names, "rank": ranks, "raw_annotation": []}
    else:
        item = {"id": "7-7", "prompt": "four", "generations": names, "ranking": ranks}
    kept, problems = run(lists.write_list(folder / "test.json", [item]), reader)
    uids = [image_uid(data) for data in pictures]
    order = [(uids[better], uids[worse]) for better, worse in ((1, 0), (0, 2), (1, 2), (1, 3), (3, 2))]
    assert [(pair["winner_uid"], pair["loser_uid"]) for pair in kept] == order
    assert [pair["source_row"] for pair in kept] == [0, 1, 3, 4, 5]
    assert problems == {"tie": {"count": 1, "ids": ["item-0/0-3" if reader == "hpd_v2" else "item-0/7-7/0-3"]}}


BAD_RANKINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "too few ranks": ("uneven_lists", {"rank": [1]}),
    "no list": ("uneven_lists", {"rank": None}),
    "one image": ("single_image", {"rank": [1], "image_path": ["a.jpg"]}),
    "rank that is text": ("label_out_of_range", {"rank": [1, "2"]}),
    "rank that is no number": ("label_out_of_range", {"rank": [1, float("nan")]}),
    "rank that is a truth value": ("label_out_of_range", {"rank": [1, True]}),
}


@pytest.mark.parametrize("name", BAD_RANKINGS)
def test_a_bad_ranking_is_one_named_row(tmp_path: Path, name: str) -> None:
    reason, change = BAD_RANKINGS[name]
    path = lists.hpd_test(tmp_path / "set", lists.some_pairs(3))
    items = json.loads(path.read_text())
    items[1] |= change
    kept, problems = run(lists.write_list(path, items), "hpd_v2")
    assert problems == {reason: {"count": 1, "ids": ["item-1"]}}
    assert [pair["source_row"] for pair in kept] == [0, 2]


BAD_CHOICES: dict[str, tuple[str, Any]] = {
    "tie": ("tie", [0.5, 0.5]),
    "both": ("label_out_of_range", [1, 1]),
    "none": ("label_out_of_range", [0, 0]),
    "two": ("label_out_of_range", [2, 0]),
    "text": ("label_out_of_range", ["1", "0"]),
    "lists": ("label_out_of_range", [[1], [0]]),
    "three": ("uneven_lists", [1, 0, 0]),
    "null": ("uneven_lists", None),
}


@pytest.mark.parametrize("name", BAD_CHOICES)
def test_a_bad_choice_is_named(tmp_path: Path, name: str) -> None:
    reason, preference = BAD_CHOICES[name]
    path = lists.hpd_train(tmp_path / "set", lists.some_pairs(3))
    items = json.loads(path.read_text())
    items[1]["human_preference"] = preference
    kept, problems = run(lists.write_list(path, items), "hpd_v2")
    assert problems == {reason: {"count": 1, "ids": ["item-1"]}}
    assert len(kept) == 2


# ── images and captions ──────────────────────────────────────────────────────────────────────────────────────────────


def outside(folder: Path, row: dict[str, Any]) -> None:
    lists.put(folder.parent, picture(5), "elsewhere.jpg")
    row["winner"] = "pictures/../../elsewhere.jpg"


def absolute(folder: Path, row: dict[str, Any]) -> None:
    lists.put(folder.parent, picture(5), "elsewhere.jpg")
    row["loser"] = str(folder.parent / "elsewhere.jpg")


def piped(folder: Path, row: dict[str, Any]) -> None:
    os.mkfifo(folder / "pipe.jpg")  # reading it would wait for ever
    row["winner"] = "pipe.jpg"


def circle(folder: Path, row: dict[str, Any]) -> None:
    (folder / "a.jpg").symlink_to("b.jpg")
    (folder / "b.jpg").symlink_to("a.jpg")
    row["winner"] = "a.jpg"


def linked(folder: Path, row: dict[str, Any]) -> None:
    lists.put(folder.parent, picture(5), "elsewhere.jpg")
    (folder / "link.jpg").symlink_to(folder.parent / "elsewhere.jpg")
    row["winner"] = "link.jpg"


def archive_circle(folder: Path, row: dict[str, Any]) -> None:
    (folder / "more.zip").symlink_to("more.zip")
    row["winner"] = "more/b.jpg"


def overwritten(with_: bytes) -> Callable[[Path, dict[str, Any]], None]:
    def damage(folder: Path, row: dict[str, Any]) -> None:
        row["winner"] = lists.put(folder, with_, "damaged.jpg")

    return damage


def changed(**values: Any) -> Callable[[Path, dict[str, Any]], None]:
    return lambda _folder, row: row.update(values)


DAMAGE: dict[str, tuple[str, Callable[[Path, dict[str, Any]], None]]] = {
    "climbs out": ("path_outside_folder", outside),
    "absolute": ("path_outside_folder", absolute),
    "a drive": ("path_outside_folder", changed(winner="C:\\data\\0.png")),
    "out by backslashes": ("path_outside_folder", changed(winner="..\\elsewhere.jpg")),
    "a pipe": ("not_a_file", piped),
    "links in a circle": ("unreadable_image", circle),
    "a git-lfs pointer": ("lfs_pointer", overwritten(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")),
    "floats": ("unsupported_pixels", overwritten(lists.encoded("F", 0.5, "TIFF"))),
    "PGM of 16 bits": ("unsupported_pixels", overwritten(b"P5 1 1 65535\n\x80\x00")),
    "32-bit integers": ("unsupported_pixels", overwritten(lists.encoded("I", 70_000, "TIFF"))),
    "a link out": ("path_outside_folder", linked),
    "absent": ("missing_image", changed(winner="pictures/none.jpg")),
    "a folder": ("missing_image", changed(loser="pictures")),
    "below a file": ("missing_image", changed(loser="mine.csv/x.jpg")),
    "no path": ("missing_image", changed(loser="")),
    "zero in the path": ("missing_image", changed(winner="a\0b.jpg")),
    "endless path": ("missing_image", changed(winner="a" * 5000)),
    "endless folder": ("missing_image", changed(winner="a" * 300 + "/b.jpg")),
    "thousands of folders": ("missing_image", changed(winner="a/" * 30_000 + "b.jpg")),
    "an archive linked to itself": ("missing_image", archive_circle),
    "zero bytes": ("missing_image", overwritten(b"")),
    "cut off": ("corrupt_image", overwritten(picture(9, kind="JPEG")[:200])),
    "no image": ("corrupt_image", overwritten(b"<html>404</html>")),
    "empty caption": ("empty_caption", changed(caption=" ")),
}


CASES = [
    (table, damage)
    for damage in DAMAGE
    for table in ("csv", "parquet")
    if (table, damage) != ("csv", "zero in the path")  # a CSV holds no zero bytes
]


@pytest.mark.slow
@pytest.mark.parametrize("table, damage", CASES)
def test_damage_in_own_pairs_is_named(tmp_path: Path, table: str, damage: str) -> None:
    reason, change = DAMAGE[damage]
    folder = tmp_path / "set"
    rows = lists.own_rows(folder, lists.some_pairs(4))
    path = lists.write_csv(folder / "mine.csv", rows)
    change(folder, rows[2])
    if table == "csv":
        lists.write_csv(path, rows)
    else:
        path = folder / "mine.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    kept, problems = run(path, "own_pairs")
    assert problems == {reason: {"count": 1, "ids": ["line-4" if table == "csv" else "row-2"]}}
    assert [pair["source_row"] for pair in kept] == [0, 1, 3]
    with pytest.raises(UserError, match=r"1 of 4 refused \(25\.00 %\)"):
        run(path, "own_pairs", most=0.2)


def test_a_caption_of_ten_thousand_words_is_a_caption(tmp_path: Path) -> None:
    caption = "word " * 9_999 + "end"
    for layout in ("pickapic", "hpd_v2 train", "image_reward rankings", "own_pairs csv"):
        pairs = [pair._replace(caption=caption) for pair in lists.some_pairs(2)]
        kept, problems = run(lists.LAYOUTS[layout](tmp_path / layout / "set", pairs), layout.split()[0])
        assert problems == {}
        assert {pair["caption"] for pair in kept} == {caption}


def test_half_a_surrogate_pair_is_no_caption(tmp_path: Path) -> None:
    path = lists.hpd_train(tmp_path / "set", lists.some_pairs(3))
    path.write_text(path.read_text().replace("picture 1", "picture \\ud83d"))
    assert run(path, "hpd_v2")[1] == {"undecodable_caption": {"count": 1, "ids": ["item-1"]}}


def test_an_image_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lists.own_csv(tmp_path / "set", lists.some_pairs(3))
    read_bytes = type(path).read_bytes

    def refuse(file: Path) -> bytes:
        if file.name == f"{image_uid(lists.some_pairs(3)[2].loser)}.jpg":
            raise PermissionError(13, "Permission denied")
        return read_bytes(file)

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    assert run(path, "own_pairs")[1] == {"unreadable_image": {"count": 1, "ids": ["line-4"]}}


def test_a_damaged_archive_is_named_and_so_is_a_damaged_member(tmp_path: Path) -> None:
    pairs = lists.some_pairs(3)
    path = lists.hpd_emoji(tmp_path / "set", pairs)
    archive = path.with_name("images.zip")
    whole = archive.read_bytes()
    place = whole.index(pairs[1].loser)
    archive.write_bytes(whole[: place + 50] + b"\0\0\0\0" + whole[place + 54 :])
    assert run(path, "hpd_v2")[1] == {"corrupt_image": {"count": 1, "ids": ["item-1"]}}
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"images\.zip: not a readable zip archive"):
        run(path, "hpd_v2")


def test_a_member_outside_is_not_read_from_an_archive(tmp_path: Path) -> None:
    path = lists.hpd_emoji(tmp_path / "set", lists.some_pairs(3))
    with zipfile.ZipFile(path.with_name("images.zip"), "a") as archive:
        archive.writestr("../secret.jpg", picture(1))
    items = json.loads(path.read_text())
    items[0]["file_path"][0] = "images/../../secret.jpg"
    problems = run(lists.write_list(path, items), "hpd_v2")[1]
    assert problems == {"path_outside_folder": {"count": 1, "ids": ["item-0"]}}


def test_an_archive_may_be_no_link_out(tmp_path: Path) -> None:
    path = lists.hpd_emoji(tmp_path / "set", lists.some_pairs(3))
    archive = path.with_name("images.zip")
    archive.rename(tmp_path / "elsewhere.zip")
    archive.symlink_to(tmp_path / "elsewhere.zip")
    source = open_path(path)[1]
    assert {row.problem for row in source.rows(0, 3)} == {"path_outside_folder"}


def test_an_image_that_vanished_after_the_data_stage_is_named(tmp_path: Path) -> None:
    path = lists.own_csv(tmp_path / "set", lists.some_pairs(3))
    source = REGISTRY.get("own_pairs").open(path)
    (path.parent / "pictures" / f"{image_uid(lists.some_pairs(3)[2].loser)}.jpg").unlink()
    with pytest.raises(UserError, match=r"row 2 is no pair any more \(missing_image\); run the data stage again"):
        source.image_bytes(2)


def test_a_digest_notices_images_that_change(tmp_path: Path) -> None:
    for layout in ("hpd_v2 train", "hpd_v2 emoji", "image_reward metadata", "own_pairs csv"):
        path = lists.LAYOUTS[layout](tmp_path / layout, lists.some_pairs())
        digest = REGISTRY.get(layout.split()[0]).digest
        assert digest is not None
        before = digest(path)
        assert digest(path) == before
        pictures = [file for file in path.parent.rglob("*") if file.suffix in {".jpg", ".webp"}]
        if pictures:
            pictures[0].write_bytes(pictures[0].read_bytes() + b"\0")
        else:
            folder = tmp_path / "other"
            lists.hpd_emoji(folder, [pair._replace(loser=pair.loser[:-1] + b"\0") for pair in lists.some_pairs()])
            packed = zipfile.ZipFile(path.with_name("images.zip")).infolist()
            others = zipfile.ZipFile(folder / "images.zip")
            with zipfile.ZipFile(path.with_name("images.zip"), "w") as archive:
                for member, other in zip(packed, others.infolist(), strict=True):
                    archive.writestr(member.filename, others.read(other))
        assert digest(path) != before, layout


def test_every_reason_is_explained(tmp_path: Path) -> None:
    used = {reason for reason, _ in (*DAMAGE.values(), *BAD_RANKINGS.values(), *BAD_CHOICES.values())}
    assert used <= set(REASONS)


# ── files that are not in the layout ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"train\.json:1: must be a JSON list of objects"),
        ("{}", "must be a JSON list of objects"),
        ("[1]", r"train\.json:1: must be a list of objects \{…\}, this item is 1"),
        ('[\n{"prompt": "a", "file_path": []}]', "item 0: 'image_path' .a list. is missing; it has prompt, file_path"),
        ('[{"prompt": "a", "human_preference": [1, 0]}]', "item 0: 'file_path' .a list. is missing"),
        ('[{"prompt": 5, "human_preference": [1, 0], "file_path": []}]', "item 0: 'prompt' must be text, not 5"),
        ('[{"prompt": "a"\n, ]', "not readable as JSON, line 2"),
        ('[\n{"prompt": "a', "not readable as JSON, line 2.*is the file cut off"),
        ('[{"prompt": "a", "human_preference": [1, 0], "file_path": ["a", "b"]}', "is the file cut off"),
        ('[{"prompt": "a", "human_preference": [1, 0], "file_path": ["a", "b"]} {', "a comma or the list's end"),
        ("[" * 100_000, "not readable as JSON"),
        (b'[{"prompt": "\xff"}]', "not UTF-8"),
    ],
)
def test_a_list_that_is_none_is_named_with_its_place(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "set" / "train.json"
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        run(path, "hpd_v2")


def test_a_list_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    pairs = [pair._replace(caption=pair.caption + " long" * 90_000) for pair in lists.some_pairs()]
    path = lists.hpd_train(tmp_path / "set", pairs)
    assert path.stat().st_size > 2 << 20
    kept, problems = run(path, "hpd_v2")
    assert problems == {}
    assert [pair["pair_id"] for pair in kept] == ids(pairs)
    path.write_text(path.read_text()[:-50])
    with pytest.raises(UserError, match=r"train\.json: not readable as JSON, line \d+"):
        run(path, "hpd_v2")


@pytest.mark.slow
def test_a_list_is_read_about_as_quickly_as_at_once(tmp_path: Path) -> None:
    item = {"prompt": "a word " * 14, "file_path": ["a.jpg", "b.jpg"]}
    path = lists.write_list(tmp_path / "set" / "train.json", [item] * 40_000)
    start = time.process_time()
    assert len(json.loads(path.read_text())) == 40_000
    at_once = time.process_time() - start
    assert sum(1 for _ in read_list(path, dict)) == 40_000
    assert time.process_time() - start - at_once < 12 * at_once


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"mine\.csv:1: column 'caption' is missing; the first line has nothing"),
        ("caption,winer,loser\n", r"column 'winner' \(did you mean 'winer'\?\) is missing"),
        ("caption,winner,loser,loser\n", "column 'loser' is there twice"),
        (b"caption,winner,loser\n\xff,a,b\n", r"mine\.csv:2: not UTF-8"),
    ],
)
def test_a_table_that_is_none_is_named_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "set" / "mine.csv"
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        run(path, "own_pairs")


def test_a_comma_in_a_caption_without_quotes_is_named(tmp_path: Path) -> None:
    path = lists.own_csv(tmp_path / "set", lists.some_pairs(3))
    path.write_text(path.read_text() + "a red, big dog,a.jpg,b.jpg,me\n")
    path.write_text(path.read_text() + 'a "red" dog,a.jpg,b.jpg,me\n')
    assert run(path, "own_pairs")[1] == {
        "stray_quote": {"count": 1, "ids": ["line-6"]},
        "wrong_cell_count": {"count": 1, "ids": ["line-5"]},
    }


@pytest.mark.parametrize("layout", ["own_pairs parquet", "image_reward metadata"])
def test_a_damaged_parquet_of_paths_is_named(tmp_path: Path, layout: str) -> None:
    path = lists.LAYOUTS[layout](tmp_path / "set", lists.some_pairs())
    reader = layout.split()[0]
    whole, table = path.read_bytes(), pq.read_table(path)
    path.write_bytes(whole[:-40])
    for name in (None, reader):
        with pytest.raises(UserError, match="not a readable parquet file"):
            open_path(path, name)
    column = "winner" if reader == "own_pairs" else "prompt_id"
    pq.write_table(table.drop_columns([column]), path)
    with pytest.raises(UserError, match=rf"column '{column}' \(text\) is missing"):
        open_path(path, reader)
    wrong = pa.array([1] * table.num_rows)
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, wrong), path)
    with pytest.raises(UserError, match=rf"column '{column}' must hold text, not int64"):
        open_path(path, reader)


def test_text_that_is_not_utf8_in_a_parquet_is_named(tmp_path: Path) -> None:
    rows = lists.own_rows(tmp_path / "set", lists.some_pairs(3))
    table = pa.Table.from_pylist(rows)
    offsets = table["caption"].chunk(0).buffers()
    broken = pa.StringArray.from_buffers(3, offsets[1], pa.py_buffer(b"\xff" * offsets[2].size))
    path = tmp_path / "set" / "mine.parquet"
    pq.write_table(table.set_column(0, "caption", broken), path)
    with pytest.raises(UserError, match=r"mine\.parquet: row 0, column 'caption': text that is not UTF-8"):
        open_path(path, "own_pairs")


# ── finding the layout ───────────────────────────────────────────────────────────────────────────────────────────────


def test_splits_in_one_folder_are_not_mixed(tmp_path: Path) -> None:
    path = lists.pickapic_shards(tmp_path / "set", lists.some_pairs())
    (path / "validation-00000-of-00001-0123456789abcdef.parquet").write_bytes(
        next(path.glob("train-00001*")).read_bytes()
    )
    with pytest.raises(UserError, match="holds the splits train, validation, and a folder is read as one"):
        open_path(path)


def test_a_hub_name_is_answered_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for reader in (None, "pickapic"):
        with pytest.raises(UserError, match=r"missing from the hub since 2025.*hf download .*someone/pickapic_v2"):
            open_path(type(tmp_path)("someone/pickapic_v2"), reader)


def test_a_path_in_no_layout_says_where_to_look(tmp_path: Path) -> None:
    path = lists.hpd_train(tmp_path / "set", lists.some_pairs(2))
    with pytest.raises(UserError, match=r"did you mean a file in it \(train\.json\)"):
        open_path(path.parent)
    with pytest.raises(UserError, match=r"a folder with train\.json; give the list itself"):
        open_path(path.parent, "hpd_v2")
    for reader in ("own_pairs", "image_reward"):
        with pytest.raises(UserError, match="a folder; give"):
            open_path(path.parent, reader)
    other = tmp_path / "other.json"
    other.write_text('[{"a": 1}]')
    with pytest.raises(UserError, match=r"other\.json: in none of the known layouts \(hpd_v2, hpdv3, image_reward"):
        open_path(other)


def test_the_data_stage_means_its_images_too(tmp_path: Path) -> None:
    path = lists.hpd_train(tmp_path / "set", lists.some_pairs(3))
    values = {**defaults(), "data.reader": "hpd_v2", "data.path": str(path)}
    before = stage_meaning("data", values)
    assert stage_meaning("data", values) == before
    data_spec._images_digest.cache_clear()
    next((path.parent / "train").iterdir()).unlink()
    after = stage_meaning("data", values)
    assert {name for name in after if after[name] != before[name]} == {"data.images"}
    pairs = lists.pickapic(tmp_path / "other", lists.some_pairs(2))
    assert "data.images" not in stage_meaning("data", {**defaults(), "data.path": str(pairs)})


def test_images_are_grouped_by_prompt_id_and_not_by_text(tmp_path: Path) -> None:
    pairs = [pair._replace(caption="the same") for pair in lists.some_pairs(4)]
    kept, problems = run(lists.reward_db(tmp_path / "set", pairs), "image_reward")
    assert [pair["pair_id"] for pair in kept] == ids(pairs)
    assert problems == {}
