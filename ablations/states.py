"""The state of each stage, read from the store's own files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.attempt import PROGRESS, latest, outcome
from ablations.files import read_json
from ablations.store import Store, names_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ablations.keys import StageNode
    from ablations.owner import Owner

DONE, RUNNING, FAILED, INTERRUPTED, BLOCKED, NEW = "done", "running", "failed", "interrupted", "blocked", "new"
STATES = (DONE, RUNNING, FAILED, INTERRUPTED, BLOCKED, NEW)


def states(store: Store, nodes: Mapping[str, StageNode]) -> dict[str, str]:
    """Key -> state of every node; nodes must come inputs first.

    done: a valid artefact. running: a live claim. failed: the latest attempt failed. interrupted: it was killed or
    stopped; the next one continues. blocked: waits for a failed stage. new: never tried.
    """
    kinds = {node.stage for node in nodes.values()}
    present = {stage: store.present(stage) for stage in kinds}
    tried = {stage: names_in(store.root / "attempts" / stage) for stage in kinds}
    claimed = names_in(store.claims.folder)
    found: dict[str, str] = {}
    for key, node in nodes.items():
        if key in present[node.stage] and store.is_done(node.stage, key):
            found[key] = DONE
        elif key in claimed and store.claims.holder(key) is not None:
            found[key] = RUNNING
        elif key in tried[node.stage]:
            found[key] = _after_attempt(store, node)
        elif any(found[upstream] in (FAILED, BLOCKED) for upstream in node.inputs.values()):
            found[key] = BLOCKED
        else:
            found[key] = NEW
    return found


def _after_attempt(store: Store, node: StageNode) -> str:
    folder = latest(store, node.stage, node.key)
    ending = outcome(folder) if folder else None
    if ending is None:
        return INTERRUPTED
    if ending["state"] == DONE:  # its artefact was removed or damaged since
        return NEW
    return str(ending["state"])


def progress(store: Store, node: StageNode) -> dict[str, Any] | None:
    """The latest report of a stage: {"done", "total", "unit", "seconds", "per_second"}, or None before the first."""
    folder = latest(store, node.stage, node.key)
    content = read_json(folder / PROGRESS) if folder else None
    return content if isinstance(content, dict) else None


def failure(store: Store, node: StageNode) -> tuple[str, Path] | None:
    """Reason and folder of a stage's latest attempt, if that failed."""
    folder = latest(store, node.stage, node.key)
    ending = outcome(folder) if folder else None
    if folder is None or ending is None or ending["state"] != FAILED:
        return None
    return str(ending["reason"]), folder


def seconds_left(report: Mapping[str, Any]) -> float | None:
    """Time left by the rate of this attempt, or None while it is not known."""
    rate = float(report["per_second"])
    return (report["total"] - report["done"]) / rate if rate > 0 else None


def where(store: Store, key: str) -> Owner | None:
    """The process that works on a stage."""
    return store.claims.holder(key)
