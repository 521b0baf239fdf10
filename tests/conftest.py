"""What every test stands on: no network, one thread, no W&B account, and examples that repeat."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from qsd.config.digest import hash_of

ROOT = Path(__file__).resolve().parent.parent
"""The project's root."""
SLURM = ROOT / "tests" / "slurm"

# Read by libraries when they are imported, and inherited by every process that a test starts.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "offline",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: of the processes that share the tests by file, none ends long before the others.

    Those that wait for a scheduler alternate with those that compute.
    """
    slow = dict.fromkeys(item.path for item in items if item.get_closest_marker("slow"))
    waiting = [path for path in slow if SLURM in path.parents]
    computing = [path for path in slow if SLURM not in path.parents]
    place = {path: 2 * number for number, path in enumerate(computing)}
    place |= {path: 2 * number + 1 for number, path in enumerate(waiting)}
    items.sort(key=lambda item: place.get(item.path, 2 * len(slow)))


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Any:
    """A test that needs a host other than this one fails, and says so."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("localhost", "127.0.0.1", "::1"):
            raise OSError(f"tests are offline, but this one connects to {address[0]}:{address[1]}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_only)
        yield


@pytest.fixture
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="module")
def yardstick() -> float:
    """Seconds of processor time for 300,000 hashes, what keys are made of: bounds of time are multiples of it."""
    begin = time.process_time()
    for number in range(100_000):
        hash_of({"selection.fraction": number, "seed": 0})
    return 3 * (time.process_time() - begin)
