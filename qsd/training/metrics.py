"""metrics.jsonl and validation.jsonl: rows of numbers, free of times and places, so equal runs give equal bytes."""

from __future__ import annotations

import json
import math
from collections import deque
from typing import TYPE_CHECKING, Any

from qsd.training.jsonl_log import JsonlLog

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from qsd.losses import PairErrors

FILE = "metrics.jsonl"
VALIDATION = "validation.jsonl"
FLUSH_STEPS = 10
"""Steps between two waits for the device."""
RECENT = 20
"""Rows over which the log of the attempt averages."""
OF_PAIRS = (
    "loss",
    "winner_error",
    "loser_error",
    "ref_winner_error",
    "ref_loser_error",
    "implicit_accuracy",
    "logit_mean",
)
_VITAL = ("loss", "grad_norm")
_LOWER = "training.learning_rate, loss.beta or lora.alpha"


def pair_sums(loss: Tensor, errors: PairErrors) -> Tensor:
    """Sums over the pairs of a micro-batch of what ``OF_PAIRS`` names, [7], fp32; NaN for what the loss does not use.

    A logit of exactly zero counts as half a correct pair.
    """
    import torch

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


class MetricsLog:
    """Rows wait on the device and are written every few steps.

    Args:
        path: as of :class:`JsonlLog`; so is ``length``.
        length: of the file at the checkpoint one continues from.

    Attributes:
        recent: the newest rows that were written, at most ``RECENT``.
    """

    def __init__(self, path: Path | None, length: int) -> None:
        self._rows = JsonlLog(path, length, _LOWER)
        self._waiting: list[tuple[int, float, Tensor]] = []
        self.recent: deque[dict[str, Any]] = deque(maxlen=RECENT)

    def add(self, step: int, rate: float, means: Tensor, grad_norm: Tensor) -> bool:
        """The row of one step: means over its pairs (``OF_PAIRS``) and the gradient norm before clipping.

        Returns:
            True when the rows so far were written, for which the device was waited for.
        """
        import torch

        self._waiting.append((step, rate, torch.cat([means, grad_norm.reshape(1)])))
        if len(self._waiting) < FLUSH_STEPS:
            return False
        self.flush()
        return True

    def flush(self) -> int:
        """Write the waiting rows and return the file's length in bytes.

        Raises:
            NonFiniteLossError: at the first row whose loss or gradient norm is not finite.
        """
        for step, rate, values in self._waiting:
            numbers = dict(zip((*OF_PAIRS, "grad_norm"), values.tolist(), strict=True))
            row = {"step": step, **numbers, "learning_rate": rate}
            self.recent.append(self._rows.add(row, finite=_VITAL))
        self._waiting.clear()
        return self._rows.flush()

    def close(self) -> None:
        """Write what waits and close the file."""
        self.flush()
        self._rows.close()


def validation_row(steps: int, pairs: int, means: Tensor) -> dict[str, float]:
    """Of ``validation.jsonl`` after so many steps: means (``OF_PAIRS``, the loss left out) over held-out pairs."""
    values = dict(zip(OF_PAIRS, means.tolist(), strict=True))
    del values["loss"]
    return {"steps": steps, "pairs": pairs, **values}


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All rows of a train artefact."""
    return [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]


def read_validation(folder: Path) -> list[dict[str, Any]]:
    """All rows of a train artefact's validation; none when it was not asked for."""
    path = folder / VALIDATION
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
