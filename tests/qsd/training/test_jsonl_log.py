"""Rows of a training's numbers: cut off at a checkpoint, never a number that is none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from qsd.training.jsonl_log import JsonlLog, NonFiniteLossError

if TYPE_CHECKING:
    from pathlib import Path


def test_rows_after_the_checkpoint_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    log = JsonlLog(path, 0)
    log.add({"step": 0, "loss": 0.5})
    length = log.flush()
    log.add({"step": 1, "loss": 0.25})
    log.close()
    assert path.stat().st_size > length == len(path.read_bytes().split(b"\n")[0]) + 1
    log = JsonlLog(path, length)
    log.add({"step": 1, "loss": 0.75})
    log.close()
    assert path.read_text() == '{"step": 0, "loss": 0.5}\n{"step": 1, "loss": 0.75}\n'


def test_what_is_no_number_is_null_and_where_one_is_needed_ends_the_training(tmp_path: Path) -> None:
    """The rows before are in the file by then."""
    path = tmp_path / "rows.jsonl"
    log = JsonlLog(path, 0, lower="loss.beta")
    assert log.add({"step": 3, "loss": 1.0, "margin": math.nan}, finite=("loss",)) == {
        "step": 3,
        "loss": 1.0,
        "margin": None,
    }
    with pytest.raises(
        NonFiniteLossError, match=r"^training diverged: loss is inf at step 4; lower loss\.beta$"
    ) as error:
        log.add({"step": 4, "loss": math.inf}, finite=("loss",))
    assert error.value.step == 4
    assert path.read_text() == '{"step": 3, "loss": 1.0, "margin": null}\n'


def test_without_a_file_it_fails_where_the_others_do() -> None:
    log = JsonlLog(None, 0)
    log.add({"step": 0, "loss": 1.0}, finite=("loss",))
    assert log.flush() == 0
    with pytest.raises(NonFiniteLossError):
        log.add({"step": 1, "loss": math.nan}, finite=("loss",))
    log.close()
