"""Places to run an attempt: so many at a time, each on its own GPU where GPUs are given.

An attempt by several processes takes a place for each where GPUs are given, and one place otherwise.
"""

from __future__ import annotations

import os
import re
import subprocess

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


def local_gpus(text: str | None) -> tuple[str, ...]:
    """The GPUs of an option, each of which this machine has.

    With a GPU that does not exist CUDA shows none at all, and stages with ``device: auto`` would run on the CPU.

    Raises:
        UserError: not a list of different GPUs, or one that is not here.
    """
    gpus = read_gpus(text)
    present = _present() if gpus else []
    for gpu in gpus:
        if not any(name == gpu or (not gpu.isdecimal() and name.startswith(gpu)) for name in present):
            numbers = [name for name in present if name.isdecimal()]
            here = f"this machine has {', '.join(numbers)}" if numbers else "nvidia-smi lists no GPU on this machine"
            raise UserError(f"--gpus {gpu}: {here}; without --gpus, stages run on what there is")
    return gpus


def _present() -> list[str]:
    """Numbers and ids of the GPUs of this machine, and ids of their MIG parts, as nvidia-smi lists them."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^GPU (\d+):", listed, re.MULTILINE) + re.findall(r"UUID: ([^)\s]+)\)", listed)


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
