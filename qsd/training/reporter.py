"""What a training says of itself in the log of its attempt: now and then a line, and a summary at the end.

Throughput goes to a file of the attempt as well.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qsd.training.throughput_log import ThroughputLog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from qsd.training.offpolicy.micro_batches import MicroBatches
    from qsd.training.processes import Processes
    from qsd.training.throughput import Throughput

SECONDS = 30.0
"""Between two lines."""


class TrainingReporter:
    """Prints in the main process.

    Args:
        rates: counts what was trained.
        batches: count passes without gradients and reference errors.
        processes: that train.
        attempt: folder of the attempt, for its rates; None keeps none.
    """

    def __init__(
        self, rates: Throughput, batches: MicroBatches, processes: Processes, attempt: Path | None = None
    ) -> None:
        self.rates = rates
        self._batches = batches
        self._processes = processes
        self._last = time.monotonic()
        self._attempt = attempt if processes.main else None
        self._log = ThroughputLog(self._attempt, rates, processes.count)

    def log_steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The rates since the last call, and a line about the newest rows of metrics.jsonl when the last is long ago.

        Called when these rows were written, for which the device has caught up.
        """
        self._add_rates(rows)
        if time.monotonic() - self._last >= SECONDS:
            self._last = time.monotonic()
            self._print(f"step {rows[-1]['step'] + 1}: {_learnt(_mean(rows))}; {self._speed()}")

    def validated(self, row: Mapping[str, Any]) -> None:
        """A line about a row of validation.jsonl."""
        self._print(
            f"validation after {row['steps']} steps on {row['pairs']} pairs that were not selected: "
            f"implicit accuracy {row['implicit_accuracy']}, {_changes(row)}"
        )

    def log_summary(self, steps: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """The summary: speed, reference errors, and whether the preference was won by spoiling the loser only."""
        if not steps:
            return
        self._add_rates(rows)
        self._log.close()
        seconds, mean = time.monotonic() - self.rates.started, _mean(rows)
        self._print(f"{steps} steps in {seconds:.1f} s: {seconds / steps:.3f} s a step, {self._speed()}")
        said = self._batches.said()
        if said:
            self._print(said)
        self._print(f"last {len(rows)} steps: {_learnt(mean)}")
        if mean["ref_winner_error"] is not None and _only_losers_moved(mean):
            self._print(
                "note: losers got worse and winners no better than under the base model: the margin grew by harm"
            )

    def _add_rates(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rates.forwarded = self._batches.forwarded
        self._log.add(rows[-1]["step"] + 1)

    def _speed(self) -> str:
        self.rates.forwarded = self._batches.forwarded
        return self.rates.text(self._processes.count)

    def _print(self, line: str) -> None:
        if self._processes.main:
            print(line, flush=True)


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each number over the rows; None where the loss has none."""
    return {name: None if rows[0][name] is None else sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _only_losers_moved(row: Mapping[str, Any]) -> bool:
    """The known failure of preference losses: the margin d is positive although winners did not improve."""
    return bool(row["logit_mean"] > 0 and row["winner_error"] >= row["ref_winner_error"])


def _learnt(row: Mapping[str, Any]) -> str:
    loss = f"loss {row['loss']:.6g}, gradient norm {row['grad_norm']:.3g}"
    if row["implicit_accuracy"] is None:
        return f"{loss}, winner error {row['winner_error']:.6g}"
    return f"{loss}, accuracy {row['implicit_accuracy']:.3g}, {_changes(row)}"


def _changes(row: Mapping[str, Any]) -> str:
    """Errors against the reference, and the margin d that they make; below zero is better than the base model."""
    winner = row["winner_error"] - row["ref_winner_error"]
    loser = row["loser_error"] - row["ref_loser_error"]
    return f"errors against the reference: winner {winner:+.2e}, loser {loser:+.2e}, margin {row['logit_mean']:+.2e}"
