"""``ablate``: plan, run, watch and explain sweeps. Heavy libraries are imported only by what runs."""

from __future__ import annotations

import os
import sys

import ablations.commands.planning
import ablations.commands.running

# isort: split
import ablations.commands.looking

# isort: split
import ablations.commands.mending
import ablations.commands.site  # noqa: F401  (each registers its commands, in the order of the help text)
from ablations.commands.common import app
from qsd.errors import UserError


def main() -> None:
    """The console command: a user's mistake is one line on standard error and exit status 2."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
