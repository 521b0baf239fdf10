"""The command ``ablate`` in the process of the test."""

from __future__ import annotations

import sys

from ablations import cli


def ablate(*arguments: str) -> int:
    """Run the command in this process; its exit status."""
    old, sys.argv = sys.argv, ["ablate", *arguments]
    try:
        cli.main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    finally:
        sys.argv = old
    return 0
