"""What runs on a node: submitit calls :func:`run_job` with the path of a job file."""

from __future__ import annotations

import sys

from ablations import attempt


def run_job(path: str) -> None:
    """Run the stage whose job file is at ``path``.

    Raises:
        SystemExit: the stage is not done; its status makes the SLURM job fail.
    """
    code = attempt.main([path])
    if code:
        sys.exit(code)
