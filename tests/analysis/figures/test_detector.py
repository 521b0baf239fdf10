"""Figures and table of the search for injected label noise, from artefacts of known content."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from PIL import Image

from analysis.data.sweep import read_sweep
from analysis.figures import detector
from analysis.lock import up_to_date
from analysis.report import write
from qsd.training.offpolicy.detection import Detection
from tests.analysis.synthetic import Cell, World, seal, stage_keys, write_sweep

PAIRS = 400
FILES = ("detector.csv", "minority.png", "intervals.png")


def judge(share, seed, metric=True):
    """Flipped pairs have a metric in [0.25, 0.75), the others in [0, 0.5); the scorer is always right."""
    rng = np.random.default_rng(seed)
    flipped = np.arange(PAIRS) < PAIRS * share
    values = rng.uniform(0, 0.5, PAIRS) + 0.25 * flipped if metric else np.full(PAIRS, np.nan)
    gap = np.where(flipped, -1.0, 1.0)
    return Detection([f"pair {row}" for row in range(PAIRS)], flipped, values, rng.normal(size=PAIRS), gap)


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
