"""How a console command ends: a user's mistake is one line on standard error and exit status 2, never a traceback."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable


def run(application: Callable[[], object]) -> None:
    """Call the body of a command; a reader that has seen enough, such as ``head``, is no error."""
    try:
        application()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
