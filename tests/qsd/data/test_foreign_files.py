"""Files as other programs and people leave them: read with the right result, or refused with the true reason."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from qsd import cli
from qsd.data import image_files
from qsd.data.describe import describe
from qsd.data.images import RefusedPixelsError, decode
from qsd.data.opening import open_path
from qsd.encoding.pixels import square
from qsd.errors import UserError
from qsd.runtime import silent
from qsd.stages.data import run as data
from tests.qsd import tiny_lists as lists
from tests.qsd.tiny_world import config, context, picture, write_rows

if TYPE_CHECKING:
    from pathlib import Path


def run(path: Path, reader: str, **settings: Any) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Pairs, problems and summary of the data stage."""
    output = path.parent / f"out-{len(list(path.parent.glob('out-*')))}"
    data.run(context(config(path, path, data__reader=reader, **settings), output))
    problems, summary = (json.loads((output / name).read_text()) for name in ("problems.json", "summary.json"))
    return pq.read_table(output / "pairs.parquet").to_pylist(), problems, summary


# ── pixels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_image_is_upright_whatever_its_exif_orientation(turn: int) -> None:
    """The corner that the camera saw at the top left is red, and stays there."""
    seen = np.zeros((8, 16, 3), np.uint8)
    seen[:4, :8] = (255, 0, 0)
    stored = {
        1: seen,
        2: seen[:, ::-1],
        3: seen[::-1, ::-1],
        4: seen[::-1],
        5: seen.transpose(1, 0, 2),
        6: np.rot90(seen, 1),
        7: np.rot90(seen, 2).transpose(1, 0, 2),
        8: np.rot90(seen, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(stream, "PNG", exif=exif)
    np.testing.assert_array_equal(np.asarray(decode(stream.getvalue())), seen)


def test_sixteen_bit_gray_is_scaled_by_its_range() -> None:
    values = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, kind)
        assert np.asarray(decode(stream.getvalue()))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_pixels_without_a_known_range_are_refused() -> None:
    for mode, value in (("F", 0.5), ("I", 70_000)):
        with pytest.raises(RefusedPixelsError, match="save it with 8 or 16 bits"):
            decode(lists.encoded(mode, value, "TIFF"))


@pytest.mark.parametrize("size", [(900, 7), (7, 900), (300, 41)])
def test_a_very_long_picture_is_cut_before_it_is_resized(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8))
    scale = 32 / min(size)
    width, height = (round(side * scale) for side in size)
    left, top = (width - 32) // 2, (height - 32) // 2
    whole = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + 32, top + 32))
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda own, to, *a, **k: sizes.append(to) or resize(own, to, *a, **k))
    pixels = np.asarray(square(image, 32)).astype(int)
    assert np.abs(pixels - np.asarray(whole).astype(int)).max() <= 2
    assert sizes == [(32, 32)]


# ── votes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def voted(folder: Path, votes: list[tuple[str, bool]]) -> Path:
    """One caption and two images, judged by people; True for the first image."""
    first, second = (lists.put(folder, picture(number)) for number in range(2))
    rows = [
        {"caption": "a hut", "winner": first, "loser": second, "annotator": person}
        if choice
        else {"caption": "a hut", "winner": second, "loser": first, "annotator": person}
        for person, choice in votes
    ]
    return lists.write_csv(folder / "pairs.csv", rows)


def test_ten_votes_on_one_pair_are_no_damage_and_the_majority_decides(tmp_path: Path) -> None:
    path = voted(tmp_path, [(str(person), person < 7) for person in range(10)])
    pairs, problems, summary = run(path, "own_pairs", data__max_rejected_fraction=0)
    assert [pair["source_row"] for pair in pairs] == [0]
    assert {reason: entry["count"] for reason, entry in problems.items()} == {"repeated_vote": 8, "outvoted": 1}
    assert (summary["annotators"], summary["refused"], summary["votes"]) == (10, 0, {"3": 1, "7": 1})
    both, _, _ = run(path, "own_pairs", data__votes="distinct")
    assert [pair["source_row"] for pair in both] == [0, 7]
    weights = [
        [pair["vote_weight"] for pair in run(path, "own_pairs", data__votes=kind)[0]] for kind in ("soft", "each")
    ]
    assert weights == [[0.7, 0.3], [7, 3]]
    text = "\n".join(describe(open_path(path)[1], 1, silent).lines())
    assert "annotators        10, the busiest with 1 pairs" in text
    assert "repeated_vote       8" in text


def test_a_draw_is_a_tie_and_the_same_vote_twice_is_a_copy(tmp_path: Path) -> None:
    path = voted(tmp_path, [("a", True), ("b", False), ("a", True)])
    with pytest.raises(UserError, match="no preference pair among 3 rows; drawn_vote 2, duplicate_pair 1"):
        run(path, "own_pairs", data__max_rejected_fraction=0.5)


# ── layouts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def rows_of(count: int = 4) -> list[dict[str, Any]]:
    return [
        {"jpg_0": picture(number), "jpg_1": picture(100 + number), "label_0": 1.0, "caption": f"picture {number}"}
        for number in range(count)
    ]


def test_images_as_datasets_writes_them_are_read(tmp_path: Path) -> None:
    plain = run(write_rows(tmp_path / "plain.parquet", rows_of()), "pickapic")[0]
    nested = [{**row, **{side: {"bytes": row[side], "path": None} for side in ("jpg_0", "jpg_1")}} for row in rows_of()]
    path = tmp_path / "struct.parquet"
    pq.write_table(pa.Table.from_pylist(nested), path)
    assert open_path(path)[0] == "pickapic"
    assert run(path, "pickapic")[0] == plain
    assert next(open_path(path)[1].rows(0, 1)).winner == picture(0)
    assert open_path(path)[1].image_bytes(2) == (picture(2), picture(102))
    views = pa.Table.from_pylist(rows_of())
    kinds = {"caption": pa.string_view(), "jpg_0": pa.binary_view(), "jpg_1": pa.binary_view()}
    for name, kind in kinds.items():
        views = views.set_column(views.schema.get_field_index(name), name, views[name].cast(kind))
    pq.write_table(views, tmp_path / "views.parquet")
    assert pq.read_schema(tmp_path / "views.parquet").field("caption").type == pa.string_view()
    assert run(tmp_path / "views.parquet", "pickapic")[0] == plain


def test_own_pairs_may_have_their_images_in_the_table(tmp_path: Path) -> None:
    own = [
        {
            "caption": row["caption"],
            "winner": {"bytes": row["jpg_0"], "path": "0.png"},
            "loser": {"bytes": row["jpg_1"]},
        }
        for row in rows_of()
    ]
    path = tmp_path / "own.parquet"
    pq.write_table(pa.Table.from_pylist(own), path)
    assert open_path(path)[0] == "own_pairs"
    assert run(path, "own_pairs")[0] == run(write_rows(tmp_path / "plain.parquet", rows_of()), "pickapic")[0]
    assert open_path(path)[1].image_bytes(1) == (picture(1), picture(101))


def test_rows_that_nobody_labelled_are_no_pairs_and_no_damage(tmp_path: Path) -> None:
    rows = [{**row, "has_label": number != 1, "label_0": float(number != 1)} for number, row in enumerate(rows_of())]
    pairs, problems, _ = run(write_rows(tmp_path / "a.parquet", rows), "pickapic", data__max_rejected_fraction=0)
    assert [pair["source_row"] for pair in pairs] == [0, 2, 3]
    assert problems["no_label"]["count"] == 1


@pytest.mark.parametrize("none", [0, 0.0, None, float("nan")])
def test_a_column_has_label_may_hold_numbers(tmp_path: Path, none: float | None) -> None:
    kind = float if isinstance(none, float) else int
    rows = [dict(row, has_label=none if number == 1 else kind(1)) for number, row in enumerate(rows_of())]
    pairs, problems, _ = run(write_rows(tmp_path / "a.parquet", rows), "pickapic")
    assert problems == {"no_label": {"count": 1, "ids": ["row-1"]}}
    assert len(pairs) == 3
    path = write_rows(tmp_path / "b.parquet", [dict(row, has_label="no") for row in rows_of()])
    with pytest.raises(UserError, match="column 'has_label' must hold true or false, not string"):
        open_path(path)


def test_an_annotator_is_the_same_person_in_a_shard_whose_ids_are_floats(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_rows(tmp_path / "set" / "a.parquet", [dict(row, user_id=12) for row in rows_of(2)])
    write_rows(tmp_path / "set" / "b.parquet", [dict(row, user_id=12.0) for row in rows_of(1)])
    write_rows(tmp_path / "set" / "c.parquet", [dict(row, user_id=float("nan")) for row in rows_of(1)])
    _, problems, summary = run(tmp_path / "set", "pickapic", data__max_rejected_fraction=0.5)
    assert {reason: entry["ids"] for reason, entry in problems.items()} == {
        "duplicate_pair": ["row-2"],
        "repeated_vote": ["row-3"],
    }
    assert summary["annotators"] == 1


def test_a_shard_that_is_there_twice_or_not_at_all_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    for name in ("train-00000-of-00001.parquet", "train-00000-of-00001-0a.parquet"):
        write_rows(folder / name, rows_of(1))
    with pytest.raises(UserError, match=r"-0a\.parquet and train-00000-of-00001\.parquet are the same shard"):
        open_path(folder)
    (folder / "train-00000-of-00001-0a.parquet").unlink()
    (folder / "more.parquet").symlink_to("gone.parquet")
    with pytest.raises(UserError, match=r"more\.parquet: a link to nothing; fetch the file again"):
        open_path(folder)
    (folder / "more.parquet").unlink()
    (folder / "more.parquet").mkdir()
    with pytest.raises(UserError, match=r"more\.parquet: a folder"):
        open_path(folder)
    (folder / "more.parquet").rmdir()
    write_rows(folder / "data" / "other.parquet", rows_of(1))
    with pytest.raises(UserError, match=r"has \*\.parquet, and so has its folder data"):
        open_path(folder)


def test_two_lists_in_one_file_are_not_read_as_the_first_of_them(tmp_path: Path) -> None:
    path = lists.hpd_train(tmp_path / "set", lists.some_pairs(2))
    path.write_text(path.read_text() * 2)
    with pytest.raises(UserError, match=r"line \d+: more text after the end of the list; keep one list in a file$"):
        open_path(path, "hpd_v2")
    path.write_text("[] {}")
    with pytest.raises(UserError, match="line 1: more text after the end of the list"):
        open_path(path, "hpd_v2")


def test_the_folder_that_a_download_from_the_hub_leaves_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("a card")
    write_rows(folder / "data" / "train-00000-of-00001.parquet", rows_of())
    # A Mac adds such a file to each file of an archive.
    (folder / "data" / "._train-00000-of-00001.parquet").write_bytes(b"\0\5\26\7")
    name, source = open_path(folder)
    assert (name, len(source)) == ("pickapic", 4)


def test_missing_shards_are_an_error_unless_they_are_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number in (0, 2):
        write_rows(folder / f"train-{number:05d}-of-00003-abcdef0123456789.parquet", rows_of())
    message = r"set: 1 of 3 shards is missing \(train-00001-of-00003\); .*data.accept_missing_shards=true"
    with pytest.raises(UserError, match=message):
        open_path(folder)
    with pytest.raises(UserError, match=message):
        run(folder, "pickapic")
    assert len(open_path(folder, accept_missing_shards=True)[1]) == 8
    assert run(folder, "pickapic", data__accept_missing_shards=True, data__max_rejected_fraction=0.5)[2]["rows"] == 8


@pytest.mark.parametrize("kind", ["backslashes", "absolute", "absolute through a link", "backslashes in an archive"])
def test_paths_of_other_machines_and_programs_are_read(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "set"
    pairs = lists.some_pairs(3)
    rows = lists.own_rows(folder, pairs)
    expected = run(lists.write_csv(folder / "mine.csv", rows), "own_pairs", data__max_rejected_fraction=0)[0]
    above = folder
    if kind == "absolute through a link":
        above = tmp_path / "link"
        above.symlink_to(folder)
    for row in rows:
        for side in ("winner", "loser"):
            row[side] = f"{above}/{row[side]}" if kind.startswith("absolute") else row[side].replace("/", "\\")
    if kind == "backslashes in an archive":
        for row in rows:
            for side in ("winner", "loser"):
                row[side] = row[side].replace("\\", "/")
        with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
            for file in sorted((folder / "pictures").iterdir()):
                archive.writestr(f"pictures\\{file.name}", file.read_bytes())
                file.unlink()
    path = lists.write_csv(above / "mine.csv", rows)
    assert run(path, "own_pairs", data__max_rejected_fraction=0)[0] == expected
    assert open_path(path, "own_pairs")[1].images.fingerprint(rows[0]["winner"])  # type: ignore[attr-defined]


def test_a_member_that_unpacks_to_more_than_an_image_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lists.hpd_emoji(tmp_path, lists.some_pairs(3))
    monkeypatch.setattr(image_files, "MOST_BYTES", 10)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(UserError, match="too_large 3"):
        run(path, "hpd_v2")


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_true_reason_of_an_unreadable_parquet(tmp_path: Path) -> None:
    path = tmp_path / "train-00000-of-00001.parquet"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 480000000\n")
    with pytest.raises(UserError, match=r"parquet: a git-lfs pointer instead of the file; run 'git lfs pull'"):
        open_path(path)
    for name, reader in (("a.csv", "own_pairs"), ("a.json", "hpd_v2"), ("a.json", "image_reward")):
        (tmp_path / name).write_bytes(path.read_bytes())
        with pytest.raises(UserError, match="a git-lfs pointer instead of the file"):
            open_path(tmp_path / name, reader)
    table = pa.Table.from_pylist(rows_of(3))
    pq.write_table(table, path)
    path.write_bytes(path.read_bytes().replace(b"caption", b"capti\xe5n"))
    with pytest.raises(UserError, match="not a readable parquet file"):
        open_path(path, "pickapic")
    offsets = pa.array([0, 1, 2, 3], pa.int32()).buffers()[1]
    broken = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"ab\xe9"))
    pq.write_table(table.set_column(table.schema.get_field_index("caption"), "caption", broken), path)
    with pytest.raises(UserError, match=r"row 2, column 'caption': text that is not UTF-8 \(byte 0xe9\)"):
        run(path, "pickapic")


def test_a_ranking_without_its_id_is_named(tmp_path: Path) -> None:
    path = lists.write_list(tmp_path / "test.json", [{"prompt": "a", "generations": [], "ranking": []}])
    with pytest.raises(UserError, match=r"item 0: 'id' \(a name\) is missing; it has prompt, generations, ranking"):
        open_path(path, "image_reward")


def test_a_data_set_without_a_pair_ends_describe_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"caption": "a", "winner": "x.png", "loser": "y.png"}]
    monkeypatch.setattr(sys, "argv", ["qsd", "data", "describe", str(lists.write_csv(tmp_path / "mine.csv", rows))])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    shown = capsys.readouterr()
    assert ending.value.code == 2
    assert "missing_image       1" in shown.out
    assert "mine.csv: no preference pair in it" in shown.err
