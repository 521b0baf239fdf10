"""Processes that do not outlive their parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process as soon as its parent ends, however it ends.

    Linux only; elsewhere an orphan finishes its stage, which its claim makes safe.

    Args:
        parent: the parent's process number, taken before this process was started; if it is gone already, this process
            ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def run_as_child(parent: int, body: Callable[[], int]) -> NoReturn:
    """All that a forked process does: ``body``, which gives its exit status; the status is 1 if it raises.

    Nothing of the parent's own ending runs in it, and what it printed is not lost.

    Args:
        parent: as in ``end_with_parent``.
        body: the work.
    """
    code = 1
    try:
        end_with_parent(parent)
        code = body()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
