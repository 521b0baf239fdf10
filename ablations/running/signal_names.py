"""Names of signals, also of real-time ones, which Python does not name."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    """``SIGTERM``; ``SIGRTMIN+5`` for a real-time signal; ``signal 33`` for one that has no name at all."""
    try:
        return signal.Signals(number).name
    except ValueError:
        first = getattr(signal, "SIGRTMIN", None)
        last = getattr(signal, "SIGRTMAX", None)
        if first is not None and last is not None and first <= number <= last:
            return f"SIGRTMIN+{number - first}"
        return f"signal {number}"
