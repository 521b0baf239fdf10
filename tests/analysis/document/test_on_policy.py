"""What tables say of on-policy cells: budgets, the share of samples that was used, and a training that used none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from analysis.data import training
from analysis.data.training import Trained, trained
from analysis.document.build import _trained
from analysis.document.model import Paragraph, Table
from qsd.files import write_json
from tests.analysis.document.test_verdict import row

SUMMARY = {
    "method": "spo",
    "reward": "clip_emoji",
    "budget": "steps",
    "steps": 4,
    "prompts_seen": 64,
    "reward_calls": 5120,
    "network_passes": 5248,
    "network_passes_trained": 320,
}


def read(tmp_path, monkeypatch, *used) -> Trained:
    """A cell whose trainings used these shares at the end; None: the summary says nothing of it."""
    for seed, share in enumerate(used):
        (tmp_path / str(seed)).mkdir()
        write_json(tmp_path / str(seed) / "summary.json", {**SUMMARY, "mean_of_last_steps": {"used": share}})
    monkeypatch.setattr(training, "artefact", lambda _runs, stage, key: tmp_path / key if stage == "train" else None)
    return trained(tmp_path, [SimpleNamespace(stages={"train": str(seed)}) for seed in range(len(used))])


def section(of: Trained) -> tuple[list[str], str]:
    """The cells of the table's row, and the text below it."""
    blocks = _trained([row(trained=of)]).blocks
    table = next(block for block in blocks if isinstance(block, Table))
    text = " ".join(span.text for block in blocks if isinstance(block, Paragraph) for span in block.text)
    return ["".join(span.text for span in cell.text) for cell in table.rows[0]], text


def test_the_table_has_budgets_and_what_was_used(tmp_path, monkeypatch):
    of = read(tmp_path, monkeypatch, 0.25, 1.0)
    assert of.on_policy
    assert of.used == (0.25, 1.0)
    cells, text = section(of)
    assert cells[1:] == ["spo", "clip_emoji", "4", "64", "5,120", "5,248", "320", "25–100 %"]
    assert "none of its samples" not in text


@pytest.mark.parametrize(("used", "which"), [((0.0,), "the training"), ((0.0, 0.5), "a training")])
def test_a_training_that_used_nothing_is_named(tmp_path, monkeypatch, used, which):
    cells, text = section(read(tmp_path, monkeypatch, *used))
    assert cells[-1].startswith("0")
    assert f"cell b: the last steps of {which} used none of its samples" in text
    assert "method.threshold" in text
