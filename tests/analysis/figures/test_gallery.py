"""Gallery: which tiles, in which place, with which pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from analysis.data.sweep import read_sweep
from analysis.figures import gallery
from analysis.figures.drawing import PNG, SVG
from tests.analysis.synthetic import Cell, World, usual_world, write_sweep


@pytest.fixture
def drawn(monkeypatch):
    """What the gallery was asked to draw."""
    seen = {}
    original = gallery._draw

    def record(sweep, split, columns, prompts, pictures):
        seen.update(split=split, columns=columns, prompts=prompts, pictures=pictures)
        return original(sweep, split, columns, prompts, pictures)

    monkeypatch.setattr(gallery, "_draw", record)
    return seen


def test_gallery_shows_base_first_then_baseline_with_first_seed_on_held_out_prompts(tmp_path, drawn):
    world = usual_world(prompts={"seen": 5, "evaluation": 14}, pixels=16, images=3)
    drawing = gallery.gallery(tmp_path, read_sweep(write_sweep(tmp_path, world)))
    assert drawing is not None
    assert drawn["split"] == "evaluation"
    assert drawn["columns"][:2] == [("base model", None), ("metric=product", 0)]
    assert len(drawn["prompts"]) == 10
    assert all(len(column) == 10 for column in drawn["pictures"])
    assert Image.open(io.BytesIO(drawing.save(PNG))).format == "PNG"
    assert drawing.save(SVG) is None, "a picture of pixels is no vector image"


def test_tiles_are_the_first_image_of_the_prompt(tmp_path, drawn):
    import pyarrow.parquet as pq

    world = World([Cell("a", seeds=(0,))], "a", prompts={"evaluation": 4}, images=3, pixels=16)
    sweep = read_sweep(write_sweep(tmp_path, world))
    gallery.gallery(tmp_path, sweep)
    folder = tmp_path / "artefacts" / "generate" / sweep.replicates[0].stages["generate"]
    expected = {
        row["prompt_id"]: row["image"]
        for shard in folder.glob("images-*.parquet")
        for row in pq.read_table(shard).to_pylist()
        if row["image_index"] == 0
    }
    assert drawn["pictures"] == [expected]


def test_missing_images_are_shown_as_missing(tmp_path, drawn):
    world = World(
        [Cell("a", seeds=(0,)), Cell("b", seeds=(0,), absent=(0,))], "a", prompts={"evaluation": 3}, pixels=16
    )
    assert gallery.gallery(tmp_path, read_sweep(write_sweep(tmp_path, world))) is not None
    assert drawn["pictures"][1] == {}
    world.pictures = False
    assert gallery.gallery(tmp_path / "other", read_sweep(write_sweep(tmp_path / "other", world))) is None


def test_small_images_are_enlarged_without_smoothing():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=True)
    tile = np.asarray(gallery._tile(stream.getvalue(), gallery._font("DejaVuSans.ttf")))
    assert (tile == pixels.repeat(2, axis=0).repeat(2, axis=1)).all()


def test_headings_wrap_within_their_column():
    font = gallery._font("DejaVuSans-Bold.ttf")
    for text in ("metric=winner_only", "selection.strategy=weighted_sampling,lora.rank=64", "x" * 60, "a b c"):
        lines = gallery._wrap(text, font, gallery._TILE)
        assert max(font.getlength(line) for line in lines) <= gallery._TILE
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
