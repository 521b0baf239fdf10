"""The benches of scoring run, at reduced size, and what they time scores what the reward model scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.bench import score, score_device
from scripts.bench.score_subjects import architecture, original_loop, subject

pytestmark = pytest.mark.slow


def test_every_way_scores_alike(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    with architecture(reduced=True):
        measured = subject("hps_v2", tmp_path, 6, 4, "cpu", 2)
    pixels = measured.ready()
    assert pixels.shape == (6, 3, 224, 224)
    expected = measured.scorer.score(list(pixels), measured.captions(0, 6))
    assert len(set(expected.tolist())) == 6, "different images and captions"
    seconds, scores = measured.forward(pixels)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert measured.from_files(0) > 0 < seconds
    (shard,) = (tmp_path / "scores-0-fp32-4").glob("*/*.parquet")
    from qsd.files import read_table

    np.testing.assert_allclose(read_table(shard)["score"].to_numpy(), expected, rtol=1e-4, atol=1e-6)


def test_the_paired_bench(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    with architecture(reduced=True):
        measured = subject("hps_v2", tmp_path, 4, 2, "cpu", 1)
    turns = score.measure(measured, 2, 1)
    assert {len(part) for part in vars(turns).values()} == {2}
    assert min(*turns.files_cpu, *turns.forward_cpu) > 0
    assert turns.share == pytest.approx(turns.rates()[0] / turns.rates()[1])
    assert turns.gain == pytest.approx(turns.rates()[0] / turns.rates()[2])
    told = score.Turns([2.0, 2.0], [1.0, 2.0], [8.0, 8.0], [1.0, 4.0], [1.0, 1.0])
    assert (told.share, told.share_cpu, told.gain) == (0.75, 0.4, 4)
    checkpoint = next((tmp_path / "weights").glob("*/*.pt"))
    checkpoint.unlink()
    with pytest.raises((FileNotFoundError, ValueError)):  # it is opened at every call
        original_loop(measured, 1)


def test_the_sweep_over_precisions_and_batches(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    lines = list(score_device.report("cpu", 2, ["hps_v2"], [2, 4], images=6, reduced=True))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[3:]]
    assert [row[:3] for row in cells] == [
        ["hps_v2", precision, batch] for precision in ("fp32", "bf16") for batch in ("2", "4")
    ]
    agreements = [float(row[7]) for row in cells if row[7]]
    assert agreements[0] == 1
    assert -1 <= agreements[1] <= 1
    assert all(float(row[3]) > 0 for row in cells)
    assert torch.get_default_dtype() == torch.float32
