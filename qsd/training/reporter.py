"""What a training prints into the log of its attempt: now and then a line, and a summary at the end.

Throughput goes to a file in the attempt's folder as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qsd.training.method import Method
from qsd.training.metrics import GRAD_NORM, mean_of
from qsd.training.throughput import Throughput, ThroughputLog

SECONDS = 30.0
"""Between two lines."""


class TrainingReporter:
    """Prints in the main process.

    Args:
        method: words its own numbers.
        throughput: counts what was trained.
        attempt: folder of the attempt, for its rates; None keeps none.
    """

    def __init__(self, method: Method, throughput: Throughput, attempt: Path | None = None) -> None:
        self._method = method
        self._processes = method.processes
        self._throughput = throughput
        self._last = time.monotonic()
        self._attempt = attempt if self._processes.main else None
        self._log = ThroughputLog(self._attempt, throughput, self._processes.count)
        for line in method.opening_lines():
            self._print(line)

    def log_steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The rates since the last call, and a line about the newest rows of metrics.jsonl when the last is long ago.

        Called when these rows were written, for which the device has caught up.
        """
        self._add_rates(rows)
        if time.monotonic() - self._last >= SECONDS:
            self._last = time.monotonic()
            self._print(f"step {rows[-1]['step'] + 1}: {self._method.describe(self._mean(rows))}; {self._speed()}")

    def log_further(self, done: int, columns: Mapping[str, float]) -> None:
        """A line about what was measured after a step beside its usual columns."""
        if columns:
            self._print(f"after {done} steps: " + ", ".join(f"{name} {value:.4g}" for name, value in columns.items()))

    def log_validation(self, row: Mapping[str, Any]) -> None:
        """A line about a row of validation.jsonl."""
        self._print(f"validation after {row['steps']} steps {self._method.describe_validation(row)}")

    def log_summary(self, steps: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Speed, means over the last rows, and the method's own closing lines; nothing after 0 steps."""
        if not steps:
            return
        self._add_rates(rows)
        self._log.close()
        seconds, mean = time.monotonic() - self._throughput.started, self._mean(rows)
        self._print(f"{steps} steps in {seconds:.1f} s: {seconds / steps:.3f} s a step, {self._speed()}")
        self._print(f"last {len(rows)} steps: {self._method.describe(mean)}")
        for line in self._method.closing_lines(mean):
            self._print(line)

    def _mean(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return mean_of(rows, (*self._method.columns, GRAD_NORM))

    def _add_rates(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._throughput.forwarded = self._method.forwarded
        self._log.add(rows[-1]["step"] + 1)

    def _speed(self) -> str:
        self._throughput.forwarded = self._method.forwarded
        return self._throughput.text(self._processes.count)

    def _print(self, line: str) -> None:
        if self._processes.main:
            print(line, flush=True)
