"""What tables say of the length of trainings is what the trainings report, not what their budget is called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from analysis.data.training import Trained
from analysis.document.sentences import budget

STEPS = "Every cell was trained for the same number of optimiser steps."
EPOCHS = "Every cell was trained for the same number of passes over its pairs."


def said(*trained: Trained) -> str:
    rows: Any = [SimpleNamespace(trained=each) for each in trained]
    return budget(rows)


def steps(*counts: int) -> Trained:
    return Trained(budget=("steps",), steps=counts, epochs=(1.0,))


def epochs(count: int, *passes: float) -> Trained:
    return Trained(budget=("epochs",), steps=(count,), epochs=passes)


@pytest.mark.parametrize(
    ("trained", "sentence"),
    [
        ((steps(120), steps(120)), STEPS),
        ((steps(120), Trained()), STEPS),
        ((steps(120), steps(252)), "Cells were trained for different numbers of optimiser steps."),
        ((steps(100, 120),), "Cells were trained for different numbers of optimiser steps."),
        ((epochs(120, 3.49), epochs(600, 3.5)), EPOCHS),
        ((epochs(2, 3.0), epochs(100, 3.5)), EPOCHS),
        ((epochs(100, 3.0, 3.02), epochs(50, 2.99)), EPOCHS),
        ((epochs(100, 3.0), epochs(100, 3.5)), "Cells were trained for different numbers of passes over their pairs."),
        ((steps(120), epochs(120, 3.5)), "Cells were trained under different budgets."),
        ((Trained(),), ""),
    ],
)
def test_equal_is_said_of_what_is_equal(trained: tuple[Trained, ...], sentence: str) -> None:
    assert said(*trained) == sentence
