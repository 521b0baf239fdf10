"""``ablate failures``: what diverged, failed or was lost, grouped by cause and place in the code."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.formatting import format_count
from ablations.recovery.causes import CAUSES, cause_of, fingerprint
from ablations.running.log_file import tail
from ablations.store.attempts import LOG, latest, origin, outcome
from ablations.store.owner import Owner
from ablations.store.states import DIVERGED, FAILED, INTERRUPTED, inspect_stages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ablations.grid.keys import StageNode
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store
    from ablations.store.scheduler import JobState
    from ablations.store.states import StageStates

_TAIL_LINES = 12
_MOST_NAMES = 4


@dataclass(frozen=True)
class Failed:
    """A stage whose latest attempt failed or was lost.

    Attributes:
        node: the stage.
        cause: a name of ``causes.CAUSES``.
        fingerprint: equal for failures of one kind at one place.
        reason: one line.
        error: as in ``exit.json``; None without a traceback.
        job: the SLURM job that it was part of; None outside SLURM.
        log: of the attempt, or of its SLURM job if that never began one; None without either.
    """

    node: StageNode
    cause: str
    fingerprint: str
    reason: str
    error: Mapping[str, Any] | None
    job: str | None
    log: Path | None


def failed_stages(plan: Plan, store: Store, seen: StageStates) -> list[Failed]:
    """Every diverged, failed or lost stage of ``plan``, in its order; ``seen`` are the present states of its stages."""
    failed = []
    for key, node in plan.nodes.items():
        if seen.states[key] not in (DIVERGED, FAILED, INTERRUPTED):
            continue
        folder = latest(store, node.stage, key)
        ending = outcome(folder) if folder else None
        record = origin(folder) if folder else {}
        made_by = (record.get("slurm") or {}).get("job")
        # What the scheduler says counts only for the attempt that its job made, not for an earlier attempt.
        job = seen.job_state(key) if folder is None or made_by == seen.jobs.get(key) else None
        cause = cause_of(ending, job, "node-failure" if _machine_restarted(record) else "lost")
        reason = str((ending or {}).get("reason") or _without_record(cause, job))
        log = folder / LOG if folder else _job_log(store, seen, key)
        mark = fingerprint(node.stage, cause, ending)
        made_by = made_by if folder else seen.jobs.get(key)
        failed.append(Failed(node, cause, mark, reason, (ending or {}).get("error"), made_by, log))
    return failed


def failures(plan: Plan, store: Store) -> dict[str, Any]:
    """The failed and lost stages in groups of one cause and place, the largest first, as plain values."""
    groups: dict[tuple[str, str], list[Failed]] = {}
    stages = failed_stages(plan, store, inspect_stages(store, plan.nodes, trust=True))
    for failed in stages:
        groups.setdefault((failed.cause, failed.fingerprint), []).append(failed)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return {
        "sweep": plan.sweep.name,
        "experiment": plan.experiment,
        "cells": len({label for failed in stages for label in _cells(plan, failed)}),
        "stages": len(stages),
        "causes": dict(Counter(failed.cause for failed in stages)),
        "groups": [_group(plan, members) for members in ordered],
    }


def _group(plan: Plan, members: list[Failed]) -> dict[str, Any]:
    example = next((failed for failed in members if failed.log), members[0])
    error = example.error or {}
    return {
        "cause": example.cause,
        "fingerprint": example.fingerprint,
        "title": CAUSES[example.cause].title,
        "remedy": CAUSES[example.cause].remedy,
        "error": error.get("type"),
        "place": _place(error.get("frames") or []),
        "stages": [
            {
                "label": plan.label(failed.node),
                "stage": failed.node.stage,
                "key": failed.node.key,
                "reason": failed.reason,
                "log": str(failed.log) if failed.log else None,
            }
            for failed in members
        ],
        "cells": list(dict.fromkeys(label for failed in members for label in _cells(plan, failed))),
        "example": {
            "label": plan.label(example.node),
            "reason": example.reason,
            "log": str(example.log) if example.log else None,
            "tail": tail(example.log, _TAIL_LINES) if example.log else [],
        },
    }


def _cells(plan: Plan, failed: Failed) -> list[str]:
    return [cell.label for cell in plan.users[failed.node.key]]


def _place(frames: list[str]) -> str | None:
    """The innermost frame in the project's own code; the innermost of all if there is none."""
    # Frames of libraries differ from version to version and say little about the cause.
    own = [frame for frame in frames if frame.startswith(("qsd/", "ablations/", "analysis/"))]
    return (own or frames)[-1] if frames else None


def _machine_restarted(record: Mapping[str, Any]) -> bool:
    try:
        return Owner.of(record.get("owner")).machine_restarted()
    except ValueError:
        return False


def _without_record(cause: str, job: JobState | None) -> str:
    if job is not None:
        return f"SLURM job {job.job}: {job.state}"
    return "the machine was restarted" if cause == "node-failure" else "it ended without a record"


def _job_log(store: Store, seen: StageStates, key: str) -> Path | None:
    """The log that SLURM kept of a job that ended before its attempt began."""
    if key not in seen.launches:
        return None
    logs = sorted((store.root / "submitit" / seen.launches[key]).rglob(f"{seen.jobs[key]}_*log.*"))
    return max(logs, key=lambda path: path.stat().st_size, default=None)


def shortened(labels: Sequence[str]) -> str:
    """The first labels, and how many more there are."""
    more = f", and {len(labels) - _MOST_NAMES:,} more" if len(labels) > _MOST_NAMES else ""
    return f"{'; '.join(labels[:_MOST_NAMES])}{more}"


def failure_lines(content: Mapping[str, Any]) -> Iterator[str]:
    """The groups for a user."""
    groups = content["groups"]
    if not groups:
        yield f"{content['sweep']}@{content['experiment']}: nothing has failed"
        return
    yield f"{format_count(content['cells'], 'cell')}, {format_count(len(groups), 'cause')}"
    for group in groups:
        yield ""
        yield f"{format_count(len(group['cells']), 'cell')}: {group['title']} [{group['cause']} {group['fingerprint']}]"
        yield f"  {group['example']['reason']}"
        if group["place"]:
            yield f"  at {group['place']}"
        labels = [stage["label"] for stage in group["stages"]]
        yield f"  {shortened(labels)}"
        if group["example"]["log"]:
            yield f"  {group['example']['log']}"
            yield from (f"  | {line}" for line in group["example"]["tail"])
        yield f"  remedy: {group['remedy']}"
