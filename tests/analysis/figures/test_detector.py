"""Figures and table of the search for injected label noise, from artefacts of known content."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from analysis.data.sweep import read_sweep
from analysis.figures import areas, detector
from analysis.lock import up_to_date
from analysis.report import write
from qsd.training.offpolicy.detection import Detection
from tests.analysis.synthetic import Cell, World, seal, stage_keys, write_sweep

PAIRS = 400
FILES = ("detector.csv", "areas.png", "minority.png", "intervals.png")


def judge(share, seed, metric=True):
    """Flipped pairs have a metric in [0.25, 0.75), the others in [0, 0.5); the scorer is always right."""
    rng = np.random.default_rng(seed)
    flipped = np.arange(PAIRS) < PAIRS * share
    values = rng.uniform(0, 0.5, PAIRS) + 0.25 * flipped if metric else np.full(PAIRS, np.nan)
    gap = np.where(flipped, -1.0, 1.0)
    noise = rng.normal(size=(4, PAIRS))
    return Detection([f"pair {row}" for row in range(PAIRS)], flipped, values, noise[0], gap, *noise[1:], 1.0 * flipped)


@pytest.fixture
def noisy(tmp_path):
    """Three noise levels of one loss, two seeds; one cell without a metric; one training that has not judged."""
    cells = [Cell(f"flip_fraction={share}", seeds=(0, 1), axes={"data.flip_fraction": share}) for share in (10, 20, 30)]
    cells += [Cell("loss=dpo", seeds=(0,)), Cell("loss=sft", seeds=(0,))]
    folder = write_sweep(tmp_path, World(cells, cells[0].name, prompts={"evaluation": 3}))
    for cell, share in zip(cells, (0.1, 0.2, 0.3, 0.2), strict=False):
        for seed in cell.seeds:
            key = stage_keys(cell, seed)["train"]
            judge(share, seed, cell.name != "loss=dpo").write(tmp_path / "artefacts" / "train" / key)
            seal(tmp_path / "artefacts" / "train" / key, "train", key)
    return tmp_path, folder


def test_the_table_has_every_training_that_judged(noisy):
    runs, folder = noisy
    rows = list(csv.DictReader(io.StringIO(detector.detector_csv(detector.read_detections(runs, read_sweep(folder))))))
    assert [(row["cell"], row["seed"], row["flipped"]) for row in rows] == [
        *((f"flip_fraction={share}", str(seed), str(4 * share)) for share in (10, 20, 30) for seed in (0, 1)),
        ("loss=dpo", "0", "80"),
    ]
    assert all(row["auroc_minus_score_gap"] == "1.0000" for row in rows)
    assert rows[-1]["auroc_metric"] == ""
    # uniform on [0.25, 0.75) against uniform on [0, 0.5): 1 - (1/2 · 1/2) / 2 = 0.875
    assert all(abs(float(row["auroc_metric"]) - 0.875) < 0.06 for row in rows[:-1])
    assert all(abs(float(row["auroc_minus_d"]) - 0.5) < 0.1 for row in rows)


def test_every_area_has_its_interval(noisy):
    runs, folder = noisy
    rows = list(csv.DictReader(io.StringIO(detector.detector_csv(detector.read_detections(runs, read_sweep(folder))))))
    for row in rows:
        assert row["folds"] == ""
        assert float(row["auroc_margin_low"]) < float(row["auroc_margin"]) < float(row["auroc_margin_high"])
        ends = (row["auroc_contradicts_judge_low"], row["auroc_contradicts_judge_high"])
        assert ends == ("1.0000", "1.0000")
    assert (rows[-1]["auroc_metric_low"], rows[-1]["auroc_metric_high"]) == ("", "")


def part(detection, fold):
    """Every second pair of a detection."""
    return Detection(**{name: value[fold::2] for name, value in vars(detection).items()})


@pytest.fixture
def crossed(tmp_path):
    """Two losses whose pairs are judged in two folds, of which the second loss has finished one; two seeds."""
    cells = [
        Cell(
            f"loss={loss},held_out_fold={fold}",
            seeds=(0, 1),
            axes={"loss.name": loss, "training.held_out_fold": fold, "data.flip_fraction": 20},
        )
        for loss in ("dpo", "sft")
        for fold in (0, 1)
    ]
    folder = write_sweep(tmp_path, World(cells, cells[0].name, prompts={"evaluation": 3}))
    for number, cell in enumerate(cells[:3]):
        for seed in cell.seeds:
            key = stage_keys(cell, seed)["train"]
            part(judge(0.2, seed), number % 2).write(tmp_path / "artefacts" / "train" / key)
            seal(tmp_path / "artefacts" / "train" / key, "train", key)
    return tmp_path, folder


def test_the_folds_of_a_cell_are_one_detection(crossed):
    runs, folder = crossed
    detected = detector.read_detections(runs, read_sweep(folder))
    assert [(item.cell, item.seed, item.folds, len(item.detection.pair_ids)) for item in detected] == [
        ("loss=dpo", 0, 2, PAIRS),
        ("loss=dpo", 1, 2, PAIRS),
        ("loss=sft", 0, 1, PAIRS // 2),
        ("loss=sft", 1, 1, PAIRS // 2),
    ]
    assert detected[0].detection.areas() == pytest.approx(judge(0.2, 0).areas())
    assert {item.flipped for item in detected} == {20}
    rows = list(csv.DictReader(io.StringIO(detector.detector_csv(detected))))
    assert [(row["cell"], row["folds"], row["pairs"]) for row in rows] == [
        ("loss=dpo", "2", "400"),
        ("loss=dpo", "2", "400"),
        ("loss=sft", "1", "200"),
        ("loss=sft", "1", "200"),
    ]


def test_areas_by_cell_are_means_over_seeds(noisy):
    runs, folder = noisy
    detected = detector.read_detections(runs, read_sweep(folder))
    (axes,) = areas.areas_figure(detected).image.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert set(areas.LABELS.values()) < set(lines)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(dict.fromkeys(item.cell for item in detected))
    first = [item.detection.areas()["margin"] for item in detected[:2]]
    assert lines[areas.LABELS["margin"]].get_xdata()[0] == pytest.approx(np.mean(first))
    assert len(lines[areas.LABELS["metric"]].get_xdata()) == 3, "one cell has no metric"
    unflipped = np.zeros(PAIRS, dtype=bool)
    clean = [replace(item, detection=replace(item.detection, flipped=unflipped)) for item in detected]
    assert areas.areas_figure(clean) is None


def lines_of(drawing):
    """The lines of a figure: label -> (x, y)."""
    (axes,) = drawing.image.axes
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_suspected_pairs_by_share_of_flips(noisy):
    runs, folder = noisy
    lines = lines_of(detector.minority(detector.read_detections(runs, read_sweep(folder))))
    shares, suspected = lines["metric ≥ 0.5"]
    assert shares == [10, 20, 30]
    assert suspected == [pytest.approx(share / 2, abs=2.5) for share in shares]
    assert lines["metric ≥ 0.1"][1] == [pytest.approx(80 + share / 5, abs=3) for share in shares]
    assert lines["as many as are flipped"][1] == shares


def test_one_share_of_flips_has_no_line_and_no_picture(noisy):
    runs, folder = noisy
    detections = [item for item in detector.read_detections(runs, read_sweep(folder)) if item.flipped == 20]
    assert len(detections) > 1
    assert detector.minority(detections) is None
    assert detector.intervals(detections) is not None


def test_flipped_pairs_by_interval(noisy):
    runs, folder = noisy
    lines = lines_of(detector.intervals(detector.read_detections(runs, read_sweep(folder))))
    middles, percents = lines["20 % flipped"]
    by_middle = dict(zip(np.round(middles, 2), percents, strict=True))  # the line in the middle is not moved aside
    assert by_middle[0.05] == 0
    assert by_middle[0.65] == 100
    assert by_middle[0.35] == pytest.approx(20, abs=6)
    assert 0.95 not in by_middle


def test_the_bars_are_wilsons_intervals():
    """Of 50 pairs, 10 are flipped: [0.112, 0.330], as tables have it."""
    low, high = detector._wilson(np.array([0.2, 0.0]), np.array([50.0, 50.0]))
    assert low.tolist() == [pytest.approx(0.1124, abs=1e-4), pytest.approx(0, abs=1e-12)]
    assert high.tolist() == [pytest.approx(0.3304, abs=1e-4), pytest.approx(0.0713, abs=1e-4)]


def test_a_pair_judged_again_counts_once():
    """Interval 0: four pairs, three times each. Interval 1: one pair twice, two once: 16 / 6. The rest: none."""
    place = np.array([0] * 12 + [1] * 4)
    pair = np.array([0, 1, 2, 3] * 3 + [0, 0, 1, 2])
    assert detector._effective(place, pair).tolist() == [4, pytest.approx(16 / 6), *[0] * 8]
    assert detector._effective(np.arange(10), np.zeros(10, dtype=np.int64)).tolist() == [1] * 10


def test_seeds_that_judge_the_same_pairs_alike_narrow_no_bar(noisy, monkeypatch):
    runs, folder = noisy
    (one, *_) = [item for item in detector.read_detections(runs, read_sweep(folder)) if item.flipped == 20]
    bars = []
    monkeypatch.setattr(detector, "_wilson", lambda share, count: bars.append(count) or (share, share))
    for detections in ([one], [one] * 3):
        detector.intervals(detections)
    assert bars[0].tolist() == pytest.approx(bars[1].tolist())
    assert sum(bars[0]) <= PAIRS


@pytest.mark.slow
def test_pictures_are_written_beside_the_tables_and_kept_up_to_date(noisy):
    runs, folder = noisy
    names = {path.name for path in write(runs, folder)}
    assert set(FILES) <= names
    assert all(Image.open(folder / name).format == "PNG" for name in FILES[1:])
    assert up_to_date(runs, folder)
    before = {name: (folder / name).read_bytes() for name in FILES}
    write(runs, folder)
    assert before == {name: (folder / name).read_bytes() for name in FILES}
    key = stage_keys(Cell("loss=sft", seeds=(0,)), 0)["train"]
    judge(0.1, 5).write(runs / "artefacts" / "train" / key)
    seal(runs / "artefacts" / "train" / key, "train", key)
    assert not up_to_date(runs, folder)


def test_a_sweep_without_injected_flips_has_no_such_files(tmp_path):
    folder = write_sweep(tmp_path, World([Cell("a", seeds=(0,))], "a", prompts={"evaluation": 3}))
    (folder / "minority.png").write_bytes(b"of another time")
    assert not set(FILES) & {path.name for path in write(tmp_path, folder)}
    assert not (folder / "minority.png").exists()
