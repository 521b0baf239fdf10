"""What finished stages leave behind for the estimates, and the places that run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablations.cost.estimate import Site
from ablations.files import write_json
from ablations.store.artefacts import Store

CLUSTER = """\
parallel: 8
resources:
  default: {gpus: 2, cpus: 4, memory_gb: 8, minutes: 60}
  select: {gpus: 0, cpus: 1, memory_gb: 8, minutes: 60}
"""


def local(parallel: int = 2) -> Site:
    return Site("local", parallel, lambda _stage: 0)


def leave_record(
    store: Store,
    stage: str,
    key: str,
    values: Mapping[str, Any],
    seconds: list[float],
    size: int = 100,
    slurm: Any = None,
    processes: int = 1,
    cuda: int | None = None,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """What a finished stage leaves behind, as far as estimates look at it: one attempt per entry of ``seconds``."""
    record = {"files": {"a": {"bytes": size}, "b": {"bytes": size}}, "inputs": inputs or {}}
    write_json(store.root / "jobs" / stage / f"{key}.json", {"values": dict(values), "inputs": inputs or {}})
    write_json(store.artefact(stage, key) / "record.json", record)
    for number, lasted in enumerate(seconds, start=1):
        folder = store.attempts(stage, key) / str(number)
        write_json(folder / "attempt.json", {"slurm": slurm, "processes": processes})
        state = "done" if number == len(seconds) else "failed"
        write_json(folder / "exit.json", {"state": state, "seconds": lasted, "max_cuda_bytes": cuda})
