"""Ending a stage in order: a signal only raises a flag, and the stage ends where it has kept its work.

A stage that checks the flag itself (``StageContext.stopping``) ends itself, however long that takes. Any other is
ended at its next report, or in the midst of whatever it does after a grace: it continues from what it wrote last.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from qsd.runtime import Interrupted

if TYPE_CHECKING:
    from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP)
GRACE_S = 8.0
_AGAIN_S = 1.0


class Stop:
    """Whether this process was asked to end.

    Attributes:
        signal: name of the first signal that asked, or None.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._checked_by_stage = False

    def watch(self) -> None:
        """From now on signals raise the flag."""
        signal.signal(signal.SIGALRM, self._insist)
        for number in SIGNALS:
            signal.signal(number, self._note)

    def unwatch(self) -> None:
        """From now on signals are ignored: only the record of the attempt is still to be written."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def stopping(self) -> bool:
        """True if the stage should end; a stage that asks is trusted to."""
        self._checked_by_stage = True
        return self.signal is not None

    def check(self) -> None:
        """End a stage that does not check the flag itself.

        Raises:
            Interrupted: a signal came.
        """
        if self.signal is not None and not self._checked_by_stage:
            raise Interrupted(f"stopped by {self.signal}")

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number).name
            signal.setitimer(signal.ITIMER_REAL, GRACE_S, _AGAIN_S)

    def _insist(self, _number: int, _frame: FrameType | None) -> None:
        """Check, every second from then on: Python drops an exception that is raised within a destructor."""
        self.check()
