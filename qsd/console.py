"""The end of a console command: a ``UserError`` is one line on standard error and exit status 2, never a traceback."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable


def run(application: Callable[[], object]) -> None:
    """Call the body of a command.

    A closed pipe is not an error: a reader such as ``head`` may stop reading before the end.
    """
    try:
        application()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # Python flushes stdout when it exits; into the closed pipe this would print another error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
