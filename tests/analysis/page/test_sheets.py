"""Each tile of a sheet is the picture of its cell, and the sheets together stay small."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from analysis.data.pictures import image_folders, read_pictures
from analysis.data.sweep import read_sweep
from analysis.page import sheets
from tests.analysis.synthetic import usual_world, write_sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    runs = tmp_path_factory.mktemp("sheets")
    return runs, read_sweep(write_sweep(runs, usual_world(prompts={"evaluation": 6}, pixels=64)))


def opened(image: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(image)))


@pytest.mark.parametrize("widest", [16_000, 150])
def test_tiles_are_the_pictures_of_their_cells(sweep, monkeypatch, widest) -> None:
    """Also where a sheet is too wide and goes on in a second line."""
    runs, read = sweep
    monkeypatch.setattr(sheets, "_WIDEST", widest)
    made = sheets.make_sheets(runs, read)
    assert made.side == 64
    assert made.cells[0][0] == "base model"
    folders = {name: folder for name, _, folder in image_folders(runs, read)}
    for (prompt, _), image in zip(made.prompts, made.images, strict=True):
        sheet = np.asarray(opened(image).convert("RGB"), dtype=float)
        for number, (name, _) in enumerate(made.cells):
            left, top = number % made.columns * 64, number // made.columns * 64
            own = np.asarray(Image.open(io.BytesIO(read_pictures(folders[name], {prompt})[prompt])).convert("RGB"))
            # WebP loses a little of a noisy picture; another cell's picture is far away.
            assert np.abs(sheet[top : top + 64, left : left + 64] - own).mean() < 40


def test_fewer_pixels_where_there_is_too_much(sweep, monkeypatch) -> None:
    runs, read = sweep
    whole = sum(map(len, sheets.make_sheets(runs, read).images))
    monkeypatch.setattr(sheets, "SIDES", (64, 32, 16))
    monkeypatch.setattr(sheets, "MOST_BYTES", whole // 2)
    made = sheets.make_sheets(runs, read)
    assert made.side < 64
    assert sum(map(len, made.images)) < whole // 2


def test_more_prompts_than_are_shown_are_counted(sweep, monkeypatch) -> None:
    runs, read = sweep
    monkeypatch.setattr(sheets, "MOST_PROMPTS", 4)
    made = sheets.make_sheets(runs, read)
    assert (len(made.prompts), len(made.images), made.of) == (4, 4, 6)
