"""The data stage: good rows become pairs, damage is counted by reason and listed by id, images are found again."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from qsd.data.describe import describe
from qsd.data.images import PairImages, decode, pair_image_number
from qsd.data.opening import open_path
from qsd.data.pairs import image_uid, pair_id
from qsd.data.readers.pickapic import open_pickapic
from qsd.errors import UserError
from qsd.runtime import silent
from qsd.stages.data import run as data
from tests.qsd import tiny_lists as lists
from tests.qsd.tiny_world import config, context, good_rows, picture, write_rows

if TYPE_CHECKING:
    from pathlib import Path


def run(path: Path, output: Path, most: float = 1.0) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Pairs, problems and summary of the stage."""
    data.run(context(config(path, path, data__max_rejected_fraction=most), output))
    problems, summary = (json.loads((output / f"{name}.json").read_text()) for name in ("problems", "summary"))
    return pq.read_table(output / "pairs.parquet").to_pylist(), problems, summary


def test_pairs_of_a_clean_file(tmp_path: Path) -> None:
    rows = good_rows(20)
    pairs, problems, summary = run(write_rows(tmp_path / "pairs.parquet", rows), tmp_path / "out", most=0)
    assert problems == {}
    assert [pair["source_row"] for pair in pairs] == list(range(20))
    for pair, row in zip(pairs, rows, strict=True):
        winner, loser = ("jpg_0", "jpg_1") if row["label_0"] == 1 else ("jpg_1", "jpg_0")
        assert pair["winner_uid"] == image_uid(row[winner])
        assert pair["loser_uid"] == image_uid(row[loser])
        assert pair["pair_id"] == pair_id(row["caption"], pair["winner_uid"], pair["loser_uid"])
        assert pair["annotator_id"] == row["user_id"]
    assert summary == {
        "rows": 20,
        "pairs": 20,
        "ties": 0,
        "refused": 0,
        "unique_captions": 20,
        "unique_images": 20,
        "annotators": 3,
        "votes": {"1": 20},
    }


def animated(kind: str) -> bytes:
    """An image file of two frames or pages."""
    first, second = (decode(picture(number)) for number in (906, 907))
    stream = io.BytesIO()
    first.save(stream, kind, save_all=True, append_images=[second])
    return stream.getvalue()


DAMAGE: dict[str, tuple[str, dict[str, Any]]] = {
    "tie": ("tie", {"label_0": 0.5}),
    "label of two": ("label_out_of_range", {"label_0": 2.0}),
    "no label": ("label_out_of_range", {"label_0": None}),
    "label not a number": ("label_out_of_range", {"label_0": float("nan")}),
    "empty caption": ("empty_caption", {"caption": ""}),
    "blank caption": ("empty_caption", {"caption": " \n\t"}),
    "no caption": ("empty_caption", {"caption": None}),
    "null image": ("missing_image", {"jpg_0": None}),
    "zero bytes": ("missing_image", {"jpg_1": b""}),
    "truncated PNG": ("corrupt_image", {"jpg_0": picture(900)[:-200]}),
    "flipped bytes in a PNG": ("corrupt_image", {"jpg_0": picture(901)[:60] + b"\xff" * 60 + picture(901)[120:]}),
    "truncated JPEG": ("corrupt_image", {"jpg_1": picture(902, kind="JPEG")[:300]}),
    "no image at all": ("corrupt_image", {"jpg_1": b"<html>404</html>"}),
    # Pillow would start Ghostscript on the first, and stumble over the second with an IndexError.
    "EPS": ("corrupt_image", {"jpg_0": picture(904, kind="EPS")}),
    "cut QOI": ("corrupt_image", {"jpg_0": picture(905, kind="QOI")[:40]}),
    "GIF of two frames": ("several_frames", {"jpg_0": animated("GIF")}),
    "WebP of two frames": ("several_frames", {"jpg_1": animated("WEBP")}),
    "PNG of two frames": ("several_frames", {"jpg_1": animated("PNG")}),
    "TIFF of two pages": ("several_frames", {"jpg_1": animated("TIFF")}),
    "same image twice": ("identical_images", {"jpg_0": picture(903), "jpg_1": picture(903)}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_counted_by_reason_and_listed_by_id(tmp_path: Path, name: str) -> None:
    reason, change = DAMAGE[name]
    rows = good_rows(6)
    rows[3] |= change
    pairs, problems, _ = run(write_rows(tmp_path / "pairs.parquet", rows), tmp_path / "out")
    assert problems == {reason: {"count": 1, "ids": ["row-3/ranking-1003"]}}
    assert [pair["source_row"] for pair in pairs] == [0, 1, 2, 4, 5]


def test_the_first_of_equal_pairs_is_kept(tmp_path: Path) -> None:
    rows = good_rows(4)
    rows[1] = dict(rows[0], ranking_id=7)
    pairs, problems, _ = run(write_rows(tmp_path / "pairs.parquet", rows), tmp_path / "out")
    assert problems == {"duplicate_pair": {"count": 1, "ids": ["row-1/ranking-7"]}}
    assert [pair["source_row"] for pair in pairs] == [0, 2, 3]


def test_the_bound_fails_the_stage_and_ties_do_not_count(tmp_path: Path) -> None:
    rows = good_rows(20)
    for row in rows[:10]:
        row["label_0"] = 0.5
    rows[10]["caption"] = ""
    rows[11]["jpg_0"] = b""
    path = write_rows(tmp_path / "pairs.parquet", rows)
    run(path, tmp_path / "enough", most=0.1)
    with pytest.raises(UserError, match=r"2 of 20 refused \(10\.00 %\).*empty_caption 1 \(row-10/ranking-1010\)"):
        run(path, tmp_path / "little", most=0.09)
    assert not (tmp_path / "little" / "pairs.parquet").exists()


def test_a_file_of_ties_has_no_pair(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "pairs.parquet", [dict(row, label_0=0.5) for row in good_rows(3)])
    with pytest.raises(UserError, match="no preference pair among 3 rows; tie 3"):
        run(path, tmp_path / "out")


@pytest.mark.parametrize("column", ["jpg_0", "jpg_1", "label_0", "caption"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    rows = good_rows(2)
    for row in rows:
        del row[column]
    path = write_rows(tmp_path / "pairs.parquet", rows)
    with pytest.raises(UserError, match=rf"pairs\.parquet: column '{column}'.*is missing"):
        run(path, tmp_path / "out")


def test_a_column_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "pairs.parquet", [dict(row, label_0="1") for row in good_rows(2)])
    with pytest.raises(UserError, match=r"column 'label_0' must hold 0, 0\.5 or 1, not string"):
        run(path, tmp_path / "out")


@pytest.mark.parametrize("kept", [0, 3, 2000, -30])
def test_a_truncated_parquet_is_named(tmp_path: Path, kept: int) -> None:
    path = write_rows(tmp_path / "pairs.parquet", good_rows(8))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"pairs\.parquet: not a readable parquet file"):
        run(path, tmp_path / "out")


def test_damage_inside_a_parquet_is_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "pairs.parquet", good_rows(8))
    raw = bytearray(path.read_bytes())
    raw[4:400] = b"\xff" * 396
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"pairs\.parquet: not a readable parquet file \(row group 0"):
        run(path, tmp_path / "out")


def test_nothing_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        run(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \*\.parquet"):
        run(tmp_path / "empty", tmp_path / "out")


def test_a_folder_is_read_like_one_file(tmp_path: Path) -> None:
    rows = good_rows(20)
    whole = run(write_rows(tmp_path / "pairs.parquet", rows), tmp_path / "one")
    folder = tmp_path / "parts"
    folder.mkdir()
    for place, start in enumerate((0, 7, 8)):
        write_rows(folder / f"part-{place}.parquet", rows[start : (7, 8, 20)[place]], group=3)
    assert run(folder, tmp_path / "many")[0] == whole[0]


def test_an_interrupted_stage_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "SHARD_ROWS", 6)
    rows = good_rows(20)
    rows[9] = dict(rows[2], ranking_id=5)
    path = write_rows(tmp_path / "pairs.parquet", rows)
    expected = run(path, tmp_path / "whole")

    def stop(done: int, _total: int, _unit: str) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.run(context(config(path, path, data__max_rejected_fraction=1.0), tmp_path / "cut", stop))
    assert len(list((tmp_path / "cut" / ".state" / "rows").glob("*.parquet"))) == 2
    assert run(path, tmp_path / "cut") == expected


def test_images_are_found_again_by_row(tmp_path: Path) -> None:
    rows = good_rows(20)
    source = open_pickapic(write_rows(tmp_path / "pairs.parquet", rows, group=3))
    images = PairImages(source)
    for number in (19, 0, 7, 7, 12):
        winner, loser = ("jpg_0", "jpg_1") if rows[number]["label_0"] == 1 else ("jpg_1", "jpg_0")
        assert images.bytes_of(pair_image_number(number, "winner")) == rows[number][winner]
        assert images.image(pair_image_number(number, "loser")).tobytes() == decode(rows[number][loser]).tobytes()
    assert images.decoded == 4
    assert len(source._batches) == 4
    with pytest.raises(UserError, match="row 20"):
        images.image(pair_image_number(20, "winner"))


def test_a_source_that_changed_is_noticed(tmp_path: Path) -> None:
    rows = good_rows(2)
    rows[1]["label_0"] = 0.5
    images = PairImages(open_pickapic(write_rows(tmp_path / "pairs.parquet", rows)))
    with pytest.raises(UserError, match="row 1 is no pair any more"):
        images.image(pair_image_number(1, "winner"))


def test_another_image_of_the_same_name_and_size_is_not_taken_for_the_first(tmp_path: Path) -> None:
    """Keys know images beside a list by name and size, and its scores and latents stood under the first one's id."""
    path = lists.own_csv(tmp_path, lists.some_pairs(3))
    data.run(context(config(path, path, data__reader="own_pairs"), tmp_path / "out"))
    pairs = pq.read_table(tmp_path / "out" / "pairs.parquet")
    images = PairImages(open_path(path, "own_pairs")[1], pairs)
    assert images.image(pair_image_number(1, "winner"))
    (image,) = tmp_path.glob(f"pictures/{pairs['loser_uid'][1]}*")
    content = bytearray(image.read_bytes())
    content[-20] ^= 1
    image.write_bytes(content)
    changed = PairImages(open_path(path, "own_pairs")[1], pairs)
    assert changed.image(pair_image_number(2, "winner"))
    with pytest.raises(UserError, match="source row 1, loser: not the image file that the data stage read; put that"):
        changed.image(pair_image_number(1, "loser"))


def test_alpha_and_palettes_become_rgb() -> None:
    import io

    from PIL import Image

    for mode in ("RGBA", "P", "L", "LA", "1", "I;16"):
        stream = io.BytesIO()
        Image.new(mode, (5, 3)).save(stream, "PNG")
        assert decode(stream.getvalue()).mode == "RGB"


def test_description(tmp_path: Path) -> None:
    rows = good_rows(9)
    rows[4]["label_0"] = 0.5
    rows[8] = dict(rows[0])
    text = "\n".join(describe(open_pickapic(write_rows(tmp_path / "pairs.parquet", rows)), 1, silent).lines())
    for line in ("rows              9", "pairs             7", "tie                 1", "duplicate_pair      1"):
        assert line in text
    assert "words               4 to 4" in text
    assert "annotators        3" in text
    assert "40 x 28" in text


def test_only_the_first_rows_when_asked(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "pairs.parquet", good_rows(20))
    data.run(context(config(path, path, data__max_rows=11), tmp_path / "few"))
    few = pq.read_table(tmp_path / "few" / "pairs.parquet").to_pylist()
    assert few == run(path, tmp_path / "all")[0][:11]
    assert json.loads((tmp_path / "few" / "summary.json").read_text())["rows"] == 11
    data.run(context(config(path, path, data__max_rows=99), tmp_path / "many"))
    assert json.loads((tmp_path / "many" / "summary.json").read_text())["rows"] == 20
