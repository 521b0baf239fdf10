"""``ablate retry``: try failed stages again and what waits for them, of some causes only, with smaller batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.recovery.causes import MEMORY, names
from ablations.recovery.failures import Failed, failed_stages
from ablations.running import execution_overrides
from ablations.store.divergence import CAUSE
from ablations.store.states import DIVERGED, DONE, QUEUED, RUNNING, inspect_stages
from qsd.stages.spec import STAGES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ablations.grid.expand import Cell
    from ablations.planning.plan import Plan
    from ablations.slurm.submit import Submitted
    from ablations.store.artefacts import Store


@dataclass(frozen=True)
class RetryPlan:
    """What a retry will do.

    Attributes:
        failed: the stages to try again.
        keys: theirs, and of what waits for them and for nothing else that is missing.
        others: failed stages of other causes or cells, which stay as they are.
    """

    failed: tuple[Failed, ...]
    keys: frozenset[str]
    others: int


def causes_of(cause: str | None, cells: Collection[Cell] | None) -> tuple[str, ...]:
    """The causes to try again for ``--cause`` and ``--cell``.

    Without either, all but a divergence: that is a result, and must be asked for by its cause or by its cell.
    """
    if cause is None and cells is None:
        return tuple(each for each in names(None) if each != CAUSE)
    return names(cause)


def choose(plan: Plan, store: Store, causes: Collection[str], cells: Collection[Cell] | None = None) -> RetryPlan:
    """The failed stages of some causes, and of some cells if given."""
    seen = inspect_stages(store, plan.nodes)
    all_failed = failed_stages(plan, store, seen)
    wanted = {node.key for cell in cells for node in cell.stages.values()} if cells is not None else set(plan.nodes)
    failed = tuple(each for each in all_failed if each.cause in causes and each.node.key in wanted)
    keys = _with_followers(plan, seen.states, {each.node.key for each in failed})
    return RetryPlan(failed, keys, len(all_failed) - len(failed))


def _with_followers(plan: Plan, states: Mapping[str, str], chosen: set[str]) -> frozenset[str]:
    keys = set(chosen)
    for key, node in plan.nodes.items():
        inputs = node.inputs.values()
        if states[key] in (DONE, RUNNING, QUEUED, DIVERGED) or not keys & set(inputs):
            continue
        if all(states[up] == DONE or up in keys for up in inputs):
            keys.add(key)
    return frozenset(keys)


def submit(plan: Plan, store: Store, choice: RetryPlan) -> Submitted | None:
    """Submit the retry as the sweep's last launch was; None if the stages did not fail on a cluster."""
    if not any(failed.job for failed in choice.failed):
        return None
    from ablations.slurm import finish_job
    from ablations.slurm import submit as cluster
    from ablations.slurm.profile import read_profile
    from ablations.store.launches import latest_launch

    launch = latest_launch(store, plan.name)
    if launch is None:
        return None
    profile, table = read_profile(Path(launch.profile)), launch.arguments["table"]
    return cluster.submit(plan, store, profile, launch.arguments, finish_job.run, table, only=choice.keys)


def halve_batches(store: Store, choice: RetryPlan) -> list[str]:
    """Let the stages that ran out of memory take half as much at a time from now on; one line for each.

    Gradients are accumulated over as many pairs as before, so a stage's meaning and key stay what they are.
    """
    lines = []
    for failed in choice.failed:
        node = failed.node
        batches = STAGES[node.stage].batches_for(node.values)
        if failed.cause not in MEMORY or not batches:
            continue
        values = {**node.values, **execution_overrides.read(store, node.stage, node.key)}
        now = {batch.name: batch.effective(values) for batch in batches}
        place, halved = f"{node.stage} {node.key[:12]}", {name: size // 2 for name, size in now.items() if size > 1}
        if not halved:
            lines.append(
                f"{place}: {', '.join(now)} {'are' if len(now) > 1 else 'is'} 1 already; only more memory helps"
            )
            continue
        reason = f"out of memory with {', '.join(f'{name} {now[name]}' for name in halved)}"
        execution_overrides.write(store, node.stage, node.key, halved, reason)
        lines.append(f"{place}: {', '.join(f'{name} {now[name]} -> {size}' for name, size in halved.items())}")
    return lines
