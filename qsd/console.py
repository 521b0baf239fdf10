"""The end of a console command: a ``UserError`` is one line on standard error and exit status 2, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, TextIO

from qsd.errors import UserError
from qsd.printable import printable
from qsd.surroundings import explained, open_closed_streams, widen_streams

if TYPE_CHECKING:
    from collections.abc import Callable


NEW_LINE = "\n"
CLOSED_PIPE = 128 + signal.SIGPIPE
"""What a shell shows of a program that ends because its output is no longer read."""


def run(application: Callable[[], object]) -> NoReturn:
    """Call the body of a command and exit.

    A closed pipe is not an error to report: a reader such as ``head`` may stop reading before the end. A full or
    read-only disk, and another user's folder, are reported in one line as a mistake is.
    """
    open_closed_streams()
    widen_streams()
    stdout = sys.stdout
    status: str | int | None = None
    try:
        application()
    except UserError as error:
        _complain(printable(str(error), keep=NEW_LINE))
        status = 2
    except SystemExit as ending:
        status = ending.code
    except BrokenPipeError:
        status = CLOSED_PIPE
    except OSError as error:
        explanation = explained(error)
        if explanation is None:
            raise
        _complain(explanation)
        status = 2
    try:
        stdout.flush()
    except BrokenPipeError:
        status = CLOSED_PIPE
    except OSError as error:  # a full disk behind ``> log``, or a terminal that was closed
        _complain(f"standard output cannot be written ({error.strerror})")
        status = status or 2
        _leave(stdout)
    if sys.stdout is not stdout:  # so typer marks that a pipe was closed, and asks for status 1
        status = CLOSED_PIPE
    if status == CLOSED_PIPE:
        _leave(stdout)
    sys.exit(status)


def _complain(text: str) -> None:
    with suppress(OSError):  # standard error may be closed too
        print(f"error: {text}", file=sys.stderr, flush=True)


def _leave(stdout: TextIO) -> None:
    """Python flushes stdout when it exits; where that cannot be written, this would print another error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
