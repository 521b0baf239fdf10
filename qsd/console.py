"""The end of a console command: a ``UserError`` is one line on standard error and exit status 2, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from qsd.errors import UserError
from qsd.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable


NEW_LINE = "\n"
CLOSED_PIPE = 128 + signal.SIGPIPE
"""What a shell shows of a program that ends because its output is no longer read."""


def run(application: Callable[[], object]) -> NoReturn:
    """Call the body of a command and exit.

    A closed pipe is not an error to report: a reader such as ``head`` may stop reading before the end.
    """
    stdout = sys.stdout
    status: str | int | None = None
    try:
        application()
    except UserError as error:
        print(f"error: {printable(str(error), keep=NEW_LINE)}", file=sys.stderr)
        status = 2
    except SystemExit as ending:
        status = ending.code
    except BrokenPipeError:
        status = CLOSED_PIPE
    try:
        stdout.flush()
    except BrokenPipeError:
        status = CLOSED_PIPE
    if sys.stdout is not stdout:  # so typer marks that a pipe was closed, and asks for status 1
        status = CLOSED_PIPE
    if status == CLOSED_PIPE:
        # Python flushes stdout when it exits; into the closed pipe this would print another error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
    sys.exit(status)
