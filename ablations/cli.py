"""``ablate``: plan, run, watch and explain sweeps. Heavy libraries are imported only by what runs."""

from __future__ import annotations

import ablations.commands.planning

# isort: split
import ablations.commands.rehearsal

# isort: split
import ablations.commands.launching

# isort: split
import ablations.commands.inspection

# isort: split
import ablations.commands.recovery
import ablations.commands.surroundings
import ablations.commands.wandb  # noqa: F401  (each registers its commands, in the order of the help text)
from ablations.commands.common import app
from qsd import console


def main() -> None:
    """The console command."""
    console.run(app)


if __name__ == "__main__":
    main()
