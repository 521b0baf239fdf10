"""What the figures of a sweep's structure show: axes, heat map, win rates, agreement of judges, compute, quality."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

from ablations.grid import spec
from analysis.data.load import load
from analysis.data.looks import Looks
from analysis.data.pairing import Cube, Panel, panels
from analysis.data.sweep import read_sweep
from analysis.figures import agreement, axes, compute, quality
from analysis.report import write
from analysis.statistics.build_rows import build_rows
from qsd.config.load import load_flat, override
from qsd.training.methods import method_of
from tests.analysis.synthetic import Cell, World, usual_world, write_sweep
from tests.conftest import ROOT

SHAPE = {"prompts": {"evaluation": 12}, "pictures": False, "seed_spread": 0.02}


def two_axes(**changes) -> World:
    """Fractions crossed with strategies; 50 % of random is missing, 20 % of the best is the baseline."""
    cells = [
        Cell(
            f"fraction={fraction},strategy={strategy}",
            effect=0.1 * fraction / 20 + 2 * (strategy == "random"),
            axes={"selection.fraction": fraction, "selection.strategy": strategy},
        )
        for strategy in ("top_k", "random")
        for fraction in (1, 20, 50)
        if (fraction, strategy) != (50, "random")
    ]
    cells.append(Cell("base model", role="base", seeds=(None,), reward_model=None))
    return World(**({"cells": cells, "baseline": "fraction=20,strategy=top_k"} | SHAPE | changes))


def structure_of(tmp_path, world: World):
    results = load(tmp_path, write_sweep(tmp_path, world))
    primary = next(panel for panel in panels(results) if panel.scorer == world.primary)
    return axes.read_structure(results.sweep, build_rows(results), primary)


def test_a_line_over_a_numeric_axis_for_each_setting_of_the_other(tmp_path):
    structure = structure_of(tmp_path, two_axes())
    drawing = axes.axes_figure(structure)
    lines, points = drawing.image.axes
    drawn = {line.get_label(): line for line in lines.lines if line.get_label().startswith("strategy")}
    assert list(drawn) == ["strategy=top_k", "strategy=random"]
    rows = structure.rows
    assert drawn["strategy=top_k"].get_xdata().tolist() == [1, 20, 50]
    top = [rows["fraction=1,strategy=top_k"].versus_baseline.difference, 0.0]
    assert drawn["strategy=top_k"].get_ydata()[:2] == pytest.approx(top)
    assert drawn["strategy=random"].get_xdata().tolist() == [1, 20]
    assert lines.get_xscale() == "log"
    assert lines.get_xlabel() == "selection.fraction"
    # The other axis is not numeric: its main effect, over the two fractions that both strategies have.
    differences = [
        rows[f"fraction={f},strategy=random"].versus_baseline.difference
        - (0 if f == 20 else rows[f"fraction={f},strategy=top_k"].versus_baseline.difference)
        for f in (1, 20)
    ]
    marker = next(line for line in points.lines if line.get_marker() == "o")
    assert marker.get_xdata() == pytest.approx([np.mean(differences)])


def test_lines_join_no_two_methods_whose_steps_differ(tmp_path):
    """Methods zipped with steps of their own: a line each, and numbers of ticks that would touch are left out."""
    steps = {"pairs": (120, 252), "spo": (4, 5)}
    cells = [
        Cell(f"{name},{count}", effect=0.1 * count / 252, axes={"method.name": name, "training.steps": count})
        for name, counts in steps.items()
        for count in counts
    ]
    world = World([*cells, Cell("base", role="base", seeds=(None,))], "pairs,120", prompts={"evaluation": 4}, pixels=16)
    (panel,) = axes.axes_figure(structure_of(tmp_path, world)).image.axes
    drawn = {line.get_label(): line.get_xdata().tolist() for line in panel.lines if "=" in line.get_label()}
    assert drawn == {"name=pairs": [120, 252], "name=spo": [4, 5]}
    assert [label.get_text() for label in panel.get_xticklabels()] == ["4", "", "120", "252"]


def test_the_table_of_effects(tmp_path):
    structure = structure_of(tmp_path, two_axes())
    rows = list(csv.DictReader(io.StringIO(axes.axes_csv(structure))))
    kinds = [(row["kind"], row["axis"], row["level"], row["second_axis"], row["second_level"]) for row in rows]
    assert kinds == [
        ("main effect", "fraction", "1", "", ""),
        ("main effect", "fraction", "50", "", ""),
        ("main effect", "strategy", '"random"', "", ""),
        ("interaction", "fraction", "1", "strategy", '"random"'),
    ]
    assert all(float(row["low"]) < float(row["difference"]) < float(row["high"]) for row in rows)
    assert [row["settings"] for row in rows] == ["2", "1", "2", "1"]


def test_the_heat_map_has_every_cell_at_its_place(tmp_path):
    structure = structure_of(tmp_path, two_axes())
    figure = axes.heat_figure(structure).image
    field = figure.axes[0]
    texts = {text.get_position(): text for text in field.texts}
    assert [label.get_text() for label in field.get_yticklabels()] == ["1", "20", "50"]
    assert [label.get_text() for label in field.get_xticklabels()] == ["top_k", "random"]
    assert texts[0, 1].get_text() == "baseline"
    row = structure.rows["fraction=1,strategy=random"]
    assert texts[1, 0].get_text() == f"{row.versus_baseline.difference:+.3g}"
    assert row.versus_baseline.marked
    assert texts[1, 0].get_fontweight() == "bold"
    assert (1, 2) not in texts, "there is no such cell"


def test_a_diverged_baseline_leaves_nothing_to_draw_against_it(tmp_path):
    world = two_axes()
    next(cell for cell in world.cells if cell.name == world.baseline).diverged = (1,)
    structure = structure_of(tmp_path, world)
    assert axes.heat_figure(structure) is None


def test_captions_name_the_intervals_of_looks(tmp_path):
    """They are no 95 % intervals of each difference."""
    structure = structure_of(tmp_path, two_axes())
    assert "looks" not in axes.axes_figure(structure).caption
    assert "intervals of the looks" in axes.axes_figure(replace(structure, looks=True)).caption
    sweep = read_sweep(next((tmp_path / "sweeps").iterdir()))
    shown = {cell: 100.0 * number for number, cell in enumerate(structure.rows, start=1)}
    rows = [*structure.rows.values()]
    looks = Looks((3, 5), None, 4, {}, 1, 3, 15, 25, "digest")
    assert "looks" not in compute.compute_figure(sweep, rows, shown).caption
    assert "those of the looks" in compute.compute_figure(replace(sweep, looks=looks), rows, shown).caption


def test_a_sweep_of_one_axis_of_names_has_no_figure_of_axes(tmp_path):
    assert structure_of(tmp_path, usual_world(**SHAPE)) is None


def panel(scorer: str, cubes: dict[str, Cube]) -> Panel:
    return Panel("evaluation", scorer, "r", "u", ("p0", "p1"), cubes)


def test_win_rates_by_hand():
    cubes = {
        "a": Cube((0, 1), np.array([[[1.0], [2.0]], [[3.0], [4.0]]])),
        "b": Cube((0, 1), np.array([[[0.0], [2.0]], [[5.0], [3.0]]])),
        "base": Cube((None,), np.array([[[2.0], [0.0]]])),
        "other seed": Cube((7,), np.array([[[2.0], [0.0]]])),
    }
    rates = agreement.win_rates(panel("judge", cubes), list(cubes))
    assert rates[0, 1] == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert rates[1, 0] == pytest.approx(1 - rates[0, 1])
    assert rates[0, 2] == pytest.approx((0 + 1 + 1 + 1) / 4)
    assert rates[2, 0] == pytest.approx(1 / 4)
    assert np.isnan(rates[0, 3]), "no training seed in common"


def test_rank_agreement_by_ranks():
    """Over cells Spearman's correlation is Pearson's of ranks; over images that of differences to the base model."""
    rng = np.random.default_rng(3)
    names = ["a", "b", "c", "d", "e"]
    judges = []
    for scorer in ("one", "two"):
        cubes = {name: Cube((0, 1), rng.normal(number, 2, (2, 2, 3))) for number, name in enumerate(names)}
        judges.append(panel(scorer, cubes | {"base": Cube((None,), rng.normal(0, 1, (1, 2, 3)))}))
    values = agreement.rank_agreement(judges, names, dict.fromkeys(names, "base"))

    def of_ranks(first, second):
        return np.corrcoef(rankdata(first), rankdata(second))[0, 1]

    over_cells = of_ranks(*([judge.cells[name].values.mean() for name in names] for judge in judges))
    over_images = [
        of_ranks(*((judge.cells[name].values[seed] - judge.cells["base"].values[0]).ravel() for judge in judges))
        for name in names
        for seed in (0, 1)
    ]
    assert values[0, 1] == pytest.approx(over_cells)
    assert values[1, 0] == pytest.approx(np.mean(over_images))
    assert np.isnan(agreement.rank_agreement(judges, names, dict.fromkeys(names, "not evaluated"))[1, 0])


def test_no_base_model_counts_as_a_trained_cell(tmp_path):
    """An axis that changes the images makes two of them."""
    cells = [
        Cell(f"g={scale},n={number}", effect=0.1 * number, base=f"base,g={scale}", seeds=(0,))
        for scale in (1, 3)
        for number in (0, 1)
    ]
    cells += [Cell(f"base,g={scale}", 0.0, role="base", seeds=(None,), reward_model=None) for scale in (1, 3)]
    results = load(tmp_path, write_sweep(tmp_path, World(cells, "g=1,n=0", **SHAPE)))
    drawing = agreement.judges_figure(results.sweep, panels(results))
    assert "over 4 cells above" in drawing.image.get_suptitle()


def test_compute_by_hand():
    """A pass with gradients is 2.1 passes, of pairs as of samples; only what the loss needs has gradients."""
    of_pairs = {"pairs_seen": 100, "loss": "dpo"}
    assert compute.passes(of_pairs, {}) == pytest.approx(200 * 2.1 + 200)
    assert compute.passes(of_pairs | {"loss": "orpo"}, {}) == pytest.approx(200 * 2.1)
    assert compute.passes(of_pairs | {"loss": "sft"}, {}) == pytest.approx(100 * 2.1 + 100)
    assert compute.passes(of_pairs | {"loss": "linear_dpo"}, {}) == pytest.approx(200 * 2.1 + 200)
    averaged = {"loss.linear_decay": 0.9}
    assert compute.passes(of_pairs | {"loss": "linear_dpo"}, averaged) == pytest.approx(200 * 2.1 + 400)
    assert compute.passes({"network_passes": 50, "network_passes_trained": 20}, {}) == pytest.approx(50 + 42)


def test_the_sweep_of_equal_passes_has_them_in_the_figure_s_counts():
    """The second arm of ``on_policy``, counted by the figure from what a training would count."""
    sweep = spec.read_sweep(ROOT / "sweeps/on_policy.yaml")
    flat = override(load_flat(ROOT / "experiments/emoji.yaml"), sweep.overrides)
    (group,) = sweep.zips
    rows = [dict(zip(group, row, strict=True)) for row in zip(*group.values(), strict=True)]
    counts = {}
    for row in rows[1::2]:
        values = {**flat, **row}
        steps = values["training.steps"]
        if row["method.name"] == "pairs":
            summary = {"pairs_seen": steps * values["training.pairs_per_step"], "loss": values["loss.name"]}
        else:
            each = method_of(values).passes(values)
            summary = {"network_passes": steps * each.forward, "network_passes_trained": steps * each.trained}
        counts[row["method.name"]] = compute.passes(summary, {})
    assert len(counts) == 6
    assert all(count == pytest.approx(25_000, rel=0.03) for count in counts.values()), counts


def test_equal_compute_is_not_drawn(tmp_path):
    world = usual_world(**SHAPE)
    results = load(tmp_path, write_sweep(tmp_path, world))
    rows = build_rows(results)
    equal = compute.read_passes(tmp_path, results.sweep)
    assert set(equal) == {cell.name for cell in world.cells[:4]}
    assert compute.compute_figure(results.sweep, rows, equal) is None
    cheap = equal | {"metric=difference": equal["metric=difference"] * 0.75}
    field = compute.compute_figure(results.sweep, rows, cheap).image.axes[0]
    shown = {line.get_ydata()[0] for line in field.lines if line.get_marker() == "o"}
    assert shown == {row.versus_base.difference for row in rows if row.primary and row.versus_base}
    low, high = field.get_xlim()
    assert low < min(cheap.values()) <= max(cheap.values()) < high


def test_kept_pairs_and_those_left_out(tmp_path):
    world = usual_world(**SHAPE, scored=True)
    kept = quality.read_kept(tmp_path, load(tmp_path, write_sweep(tmp_path, world)).sweep)
    assert [each.label for each in kept] == [cell.name for cell in world.cells[:4]]
    difference = kept[1]
    assert difference.kept.nonzero()[0].tolist() == list(range(5, 25))
    assert difference.winners[5] == pytest.approx(0.05)
    assert difference.losers[5] == pytest.approx(0.95)
    assert difference.quality["50"] == 0.75
    assert kept[3].scorer is None, "the random control reads no scores"
    figure = quality.quality_figure(kept).image
    assert len(figure.axes) == 3 * 3, "a line for each selection that knows Q or scores"
    for field, scores in zip(figure.axes[4:6], (difference.winners, difference.losers), strict=True):
        for bars, pairs in zip(field.patches, (difference.kept, ~difference.kept), strict=True):
            density, edges, _ = bars.get_data()
            counts = density * (edges[1] - edges[0]) * pairs.sum()
            inner = ((scores[pairs] >= edges[1]) & (scores[pairs] <= edges[-2])).sum()
            assert counts[1:-1].sum() == pytest.approx(inner), "every pair is drawn, those with extreme scores too"
            assert counts[[0, -1]].sum() == pytest.approx(pairs.sum() - inner)


@pytest.mark.slow
def test_a_report_writes_them_and_writes_the_same_again(tmp_path):
    world = two_axes(scored=True)
    world.cells[0].reference = False
    folder = write_sweep(tmp_path, world)
    written = {path.name: path.read_bytes() for path in write(tmp_path, folder)}
    for name in ("axes", "heat", "compute", "wins", "judges", "quality"):
        assert f"{name}.png" in written
    assert "axes.csv" in written
    assert {path.name: path.read_bytes() for path in write(tmp_path, folder)} == written
