"""Figures as files: formats, equal bytes, no time in them, and labels that fit."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from analysis.data.load import load
from analysis.figures.drawing import FORMATS, PDF, PNG, SVG, styled
from analysis.figures.effects import effects
from analysis.figures.overlap import overlap_figure, read_overlap
from analysis.report import write
from analysis.statistics.build_rows import build_rows
from tests.analysis.synthetic import Cell, World, usual_world, write_sweep

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scorers", [1, 5])
def test_effects_figure_is_drawn_for_any_number_of_scorers(tmp_path, scorers):
    names = {f"scorer_{number}": ("unit", 1.0) for number in range(scorers)}
    world = usual_world(scorers=names, prompts={"evaluation": 5}, pictures=False)
    results = load(tmp_path, write_sweep(tmp_path, world))
    image = Image.open(io.BytesIO(effects(results.sweep, build_rows(results)).save(PNG)))
    assert image.format == "PNG"
    assert not {"Software", "Date", "Creation Time"} & set(image.info)


LONG = "data.flip_fraction=20,loss.name=adaptive_dpo,data.relabel=scores,reward.model=clip_emoji"


def fits(drawing):
    """Whether all labels of the first axes are in the picture, and none upon the next."""
    figure = drawing.image
    with styled(drawing.style):
        FigureCanvasAgg(figure).draw()
    axes, frame = figure.axes[0], figure.bbox
    rows = sorted((label.get_window_extent() for label in axes.get_yticklabels()), key=lambda box: box.y0)
    columns = sorted((label.get_window_extent() for label in axes.get_xticklabels()), key=lambda box: box.x0)
    return (
        all(box.x0 >= frame.x0 and box.y1 <= frame.y1 for box in rows)
        and all(box.y0 >= frame.y0 for box in columns)
        and all(lower.y1 <= upper.y0 for lower, upper in itertools.pairwise(rows))
        and all(left.x1 <= right.x0 for left, right in itertools.pairwise(columns))
    )


@pytest.mark.parametrize("count", [2, 16, 40])
def test_labels_of_any_length_fit(tmp_path, count):
    cells = [Cell(f"{LONG},number={number}", seeds=(0,)) for number in range(count)]
    cells.append(Cell("base model", role="base", seeds=(None,), reward_model=None))
    world = World(cells, cells[0].name, prompts={"evaluation": 2}, pictures=False, pairs=300)
    results = load(tmp_path, write_sweep(tmp_path, world))
    assert fits(overlap_figure(read_overlap(tmp_path, results.sweep)))
    assert fits(effects(results.sweep, build_rows(results)))


def test_notes_of_judges_are_within_the_picture(tmp_path):
    names = [f"reward={letter * 20}" for letter in "abc"]
    cells = [Cell(name, reward_model=None) for name in names]
    cells.append(Cell("base model", role="base", seeds=(None,), reward_model=None))
    world = World(cells, names[0], prompts={"evaluation": 2}, pictures=False)
    results = load(tmp_path, write_sweep(tmp_path, world))
    why = ", ".join(f"shares_a_backbone_{number}" for number in range(12))
    rows = [replace(row, conflicts=(f"{why} {row.cell}",) if row.role != "base" else ()) for row in build_rows(results)]
    drawing = effects(results.sweep, rows)
    figure = drawing.image
    with styled(drawing.style):
        FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    frame, box = figure.bbox, legend.get_window_extent()
    assert legend.get_title().get_text().count("†") == len(names) * len(world.scorers)
    assert frame.x0 <= box.x0
    assert box.x1 <= frame.x1
    assert frame.y0 <= box.y0
    assert box.y1 <= min(axes.get_window_extent().y0 for axes in figure.axes)


def small_world():
    return usual_world(prompts={"evaluation": 5}, scorers={"judge": ("logit", 1.0)}, pixels=16)


def test_equal_inputs_give_equal_bytes_in_every_format(tmp_path):
    """Drawn twice: no time, no random id, no counter of the process gets into the file."""
    results = load(tmp_path, write_sweep(tmp_path, small_world()))
    rows = build_rows(results)
    first, second = effects(results.sweep, rows), effects(results.sweep, rows)
    for form, start in ((PNG, b"\x89PNG"), (SVG, b"<?xml"), (PDF, b"%PDF")):
        content = first.save(form)
        assert content == second.save(form)
        assert content.startswith(start)
        assert not any(word in content for word in (b"CreationDate", b"dc:date", b"Matplotlib"))


def test_formats_are_as_asked_and_what_is_no_longer_asked_is_removed(tmp_path):
    folder = write_sweep(tmp_path, small_world())
    every = {"effects": FORMATS, "gallery": FORMATS, "overlap": (SVG,), "judges": (SVG,)}
    names = {path.name for path in write(tmp_path, folder, every)}
    figures = {name for name in names if name.endswith(FORMATS)}
    assert figures == {"effects.png", "effects.svg", "effects.pdf", "gallery.png", "overlap.svg", "wins.png"}
    assert figures <= {path.name for path in folder.iterdir()}
    write(tmp_path, folder)
    now = {path.name for path in folder.iterdir() if path.name.endswith(FORMATS)}
    assert now == {"effects.png", "effects.svg", "gallery.png", "overlap.png", "wins.png", "wins.svg"}
