"""A launch of a sweep in a process of its own, and how often each training was begun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT


def start(sweep: str, table: str, **more: str) -> subprocess.Popen[str]:
    """``ablate run`` over another stage table; ``more``: environment variables."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.ablations.launch_sweep", f"sweeps/{sweep}.yaml", table],
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def undisturbed(
    make: Callable[[Path, pytest.MonkeyPatch], Path],
    run: Callable[[], tuple[int, str]],
    factory: pytest.TempPathFactory,
) -> tuple[Path, int, str]:
    """A project that ``make`` writes and whose run is left alone, with its exit status and what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        root = make(factory.mktemp("undisturbed"), patch)
        return root, *run()


def run(sweep: str, table: str, **more: str) -> tuple[int, str]:
    """Exit status and output of a run that ends by itself."""
    process = start(sweep, table, **more)
    out, err = process.communicate()
    return process.returncode, out + err


def trained(root: Path) -> Counter[str]:
    """Key of a training -> how often it was begun."""
    lines = (root / "events").read_text().splitlines()
    return Counter(line.split("/")[1] for line in lines if line.startswith("run train/"))
