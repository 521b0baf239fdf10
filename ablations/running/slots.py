"""Places to run an attempt: so many at a time, each on its own GPU where GPUs are given."""

from __future__ import annotations

import os
import re

from qsd.errors import UserError

Slot = dict[str, str]
"""Environment variables that an attempt in this place gets."""
_GPU = re.compile(r"\d+|(GPU|MIG)-[0-9A-Za-z/-]+")


def default_jobs() -> int:
    """Two attempts at a time where there are cores for them: one computes while another reads or writes."""
    return 2 if (os.cpu_count() or 1) >= 2 else 1


def read_gpus(text: str | None) -> tuple[str, ...]:
    """The GPUs of an option such as ``0,1``; empty without one.

    Raises:
        UserError: not a list of different GPUs.
    """
    if text is None:
        return ()
    gpus = tuple(part.strip() for part in text.split(","))
    if not all(_GPU.fullmatch(gpu) for gpu in gpus) or len(set(gpus)) < len(gpus):
        raise UserError(f"--gpus must be different numbers or ids of GPUs such as 0,1, not {text!r}")
    return gpus


def make_slots(jobs: int | None, gpus: tuple[str, ...] = ()) -> list[Slot]:
    """``jobs`` places, or with GPUs ``jobs`` (by default one) on each; neighbouring places are on different GPUs."""
    if not gpus:
        return [{} for _ in range(jobs or default_jobs())]
    return [{"CUDA_VISIBLE_DEVICES": gpu} for _ in range(jobs or 1) for gpu in gpus]
