"""Start a one-node SLURM with a running job and hold it, as a test run does: ``python -m tests.slurm.hold FOLDER``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.slurm.one_node import OneNode


def main(folder: Path) -> None:
    # A shell starts background jobs with Ctrl-C ignored, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    node = OneNode(folder)
    os.environ["SLURM_CONF"] = str(node.conf)
    try:
        node.start()
        subprocess.run(["sbatch", "--output=/dev/null", "--mem=10", "--wrap=sleep 1000"], check=True)
        print("up", flush=True)
        time.sleep(1000)
    finally:
        node.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
