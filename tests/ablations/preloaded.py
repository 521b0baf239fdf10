"""What a child of the fork server finds imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection


def tell(connection: Connection, needed: Sequence[str], needless: Sequence[str]) -> None:
    """Send which modules are missing, which are there without need, and whether CUDA is in use."""
    missing = [name for name in needed if name not in sys.modules]
    there = [name for name in needless if name in sys.modules]
    connection.send((missing, there, sys.modules["torch"].cuda.is_initialized()))
