"""Places to run an attempt: so many at a time, each on its own GPU where GPUs are given.

An attempt by several processes takes a place for each where GPUs are given, and one place otherwise.
"""

from __future__ import annotations

import os
import re

from qsd.errors import UserError

Slot = dict[str, str]
"""Environment variables that an attempt in this place gets."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"
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


def take(free: list[Slot], count: int) -> list[Slot] | None:
    """Remove ``count`` places on different GPUs from the end of ``free``; None, and none removed, without so many."""
    chosen: dict[str, Slot] = {}
    for slot in reversed(free):
        if len(chosen) < count:
            chosen.setdefault(slot.get(_VISIBLE, ""), slot)
    if len(chosen) < count:
        return None
    for slot in chosen.values():
        free.remove(slot)
    return list(chosen.values())


def environment(slots: list[Slot]) -> Slot:
    """What an attempt gets that has several places."""
    gpus = [slot[_VISIBLE] for slot in slots if _VISIBLE in slot]
    return {_VISIBLE: ",".join(gpus)} if gpus else {}


def make_slots(jobs: int | None, gpus: tuple[str, ...] = ()) -> list[Slot]:
    """``jobs`` places, or with GPUs ``jobs`` (by default one) on each; neighbouring places are on different GPUs."""
    if not gpus:
        return [{} for _ in range(jobs or default_jobs())]
    return [{_VISIBLE: gpu} for _ in range(jobs or 1) for gpu in gpus]
