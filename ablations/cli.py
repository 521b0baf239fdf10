"""``ablate``: plan, run, watch and explain sweeps. Heavy libraries are imported only by what runs."""

from __future__ import annotations

import ablations.commands.planning

# isort: split
import ablations.commands.trying

# isort: split
import ablations.commands.running

# isort: split
import ablations.commands.looking

# isort: split
import ablations.commands.mending
import ablations.commands.site  # noqa: F401  (each registers its commands, in the order of the help text)
from ablations.commands.common import app
from qsd import console


def main() -> None:
    """The console command."""
    console.run(app)


if __name__ == "__main__":
    main()
