"""The metric columns of a training on pairs, and the words about them for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from qsd.losses import PairErrors
from qsd.training.metrics import GRAD_NORM

COLUMNS = (
    "loss",
    "winner_error",
    "loser_error",
    "ref_winner_error",
    "ref_loser_error",
    "implicit_accuracy",
    "logit_mean",
)


def pair_sums(loss: Tensor, errors: PairErrors) -> Tensor:
    """Sums over the pairs of a micro-batch of what ``COLUMNS`` names, [7], fp32; NaN for what the loss does not use.

    A logit of exactly zero counts as half a correct pair.
    """
    with torch.no_grad():
        unused = loss.new_full((), math.nan)
        values = [loss.sum(), errors.winner.sum(), errors.loser.sum(), unused, unused, unused, unused]
        if errors.ref_winner is not None and errors.ref_loser is not None:
            logits = errors.logits
            values[3:] = [
                errors.ref_winner.sum(),
                errors.ref_loser.sum(),
                (0.5 * (logits.sign() + 1)).sum(),
                logits.sum(),
            ]
        return torch.stack(values)


def validation_row(steps: int, pairs: int, means: Tensor) -> dict[str, float]:
    """The row of ``validation.jsonl`` after so many steps: means of ``COLUMNS``, [7], over held-out pairs.

    The loss is left out, which a validation does not compute.
    """
    values = dict(zip(COLUMNS, means.tolist(), strict=True))
    del values["loss"]
    return {"steps": steps, "pairs": pairs, **values}


def describe(row: Mapping[str, Any]) -> str:
    """Means over some steps in a line."""
    loss = f"loss {row['loss']:.6g}, gradient norm {row[GRAD_NORM]:.3g}"
    if row["implicit_accuracy"] is None:
        return f"{loss}, winner error {row['winner_error']:.6g}"
    return f"{loss}, accuracy {row['implicit_accuracy']:.3g}, {_against_reference(row)}"


def describe_validation(row: Mapping[str, Any]) -> str:
    """A row of ``validation.jsonl`` in a line."""
    return (
        f"on {row['pairs']} pairs that were not selected: implicit accuracy {row['implicit_accuracy']}, "
        f"{_against_reference(row)}"
    )


def only_losers_moved(row: Mapping[str, Any]) -> bool:
    """The known failure of preference losses: the margin d is positive although winners did not improve."""
    if row["ref_winner_error"] is None:
        return False
    return bool(row["logit_mean"] > 0 and row["winner_error"] >= row["ref_winner_error"])


def _against_reference(row: Mapping[str, Any]) -> str:
    """Errors minus those of the reference, and the margin d; an error below zero is better than the base model's."""
    winner = row["winner_error"] - row["ref_winner_error"]
    loser = row["loser_error"] - row["ref_loser_error"]
    return f"errors against the reference: winner {winner:+.2e}, loser {loser:+.2e}, margin {row['logit_mean']:+.2e}"
