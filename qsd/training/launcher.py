"""What the launcher that started this process says of it; read from the environment, so nothing heavy is imported."""

from __future__ import annotations

import os


def launched() -> int:
    """How many processes a launcher (torchrun, ``accelerate launch``) has started to work together; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_on_this_machine() -> int:
    """How many of these processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def rank() -> int:
    """This process's rank according to its launcher, without joining the others; 0 for a single process."""
    return int(os.environ.get("RANK", "0")) if launched() > 1 else 0
