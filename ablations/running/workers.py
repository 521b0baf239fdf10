"""The launcher's side of the warm process (``ablations.running.server``)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Workers:
    """Starts attempts in processes of their own, which die with this process.

    Args:
        preload: modules that the warm process imports before its first attempt.
        threads: threads per attempt, for the libraries that read it when they are loaded.
    """

    def __init__(self, preload: Sequence[str], threads: int) -> None:
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ablations.running.server", str(os.getpid()), *preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **limits},
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which ends the attempts in order
        )
        self._pending = b""

    def start(self, identity: int, job: Path, environment: Mapping[str, str]) -> None:
        """Start the attempt at a job with more environment variables; ``identity`` names it in events."""
        self._send({"run": identity, "job": str(job.resolve()), "environment": dict(environment)})

    def signal(self, identity: int, number: int) -> None:
        """Send a signal to an attempt."""
        self._send({"signal": identity, "number": number})

    def ended(self, timeout: float) -> list[tuple[int, int]]:
        """Wait up to ``timeout`` seconds for attempts to end: (identity, exit status or minus the signal's number).

        Raises:
            RuntimeError: the warm process itself is gone.
        """
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        if not ready:
            return []
        data = os.read(self._process.stdout.fileno(), 65536)
        if not data:
            raise RuntimeError(f"the process that starts attempts ended with status {self._process.wait()}")
        *lines, self._pending = (self._pending + data).split(b"\n")
        events = [json.loads(line) for line in lines]
        return [(event["id"], event["code"]) for event in events]

    def close(self) -> None:
        """End the warm process and whatever still runs under it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _send(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end shows in :meth:`ended`
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
