"""What a plan will cost: time, GPU-hours and disk of every stage, from earlier records or from a stated model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ablations.cost.makespan import makespan
from ablations.cost.model_estimate import STARTUP_S, Machine, has_gpu, modelled_bytes, modelled_seconds
from ablations.cost.pair_counts import counted_pairs
from ablations.cost.record_estimate import Destination, estimate_from_records
from ablations.cost.timings import read_timings
from ablations.cost.workload import Counts, work_of
from ablations.running.processes import count_of
from ablations.running.slots import default_jobs
from ablations.slurm.profile import LOCAL, find_profile, read_profile
from ablations.store.divergence import with_followers
from ablations.store.jobs import QSD, load_table
from ablations.store.states import DIVERGED, DONE, RUNNING, progress
from qsd.stages.spec import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ablations.grid.keys import StageNode
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store
    from qsd.stages.stage_spec import Work

RECORDS, ELSEWHERE, MODEL = "records", "records of another place", "model"
AND_MODEL = ", model per item"
"""Follows either kind of records where they are too small to show more than the start-up."""


@dataclass(frozen=True)
class Site:
    """Where a plan is to run.

    Attributes:
        name: ``local`` or the cluster's.
        parallel: stages at a time.
        gpus: kind of stage -> GPUs that one takes.
        processes: stage -> processes that run it.
    """

    name: str
    parallel: int
    gpus: Callable[[str], int]
    processes: Callable[[StageNode], int] = lambda _node: 1

    @property
    def on_slurm(self) -> bool:
        """True anywhere but on this machine."""
        return self.name != LOCAL


def find_site(cluster: str, parallel: int | None, device: str) -> Site:
    """This machine for ``local``, or else the place of a cluster profile; ``parallel`` replaces its own number.

    Raises:
        UserError: there is no such profile, or a mistake in it.
    """
    if cluster == LOCAL:  # a stage that can use a GPU takes one if there is any
        gpu = has_gpu(device)
        return Site(
            LOCAL,
            parallel or default_jobs(),
            gpus=lambda stage: int(gpu and STAGES[stage].uses_gpu),
            processes=lambda node: count_of(node.stage, node.values, load_table(QSD), None),
        )
    profile = read_profile(find_profile(cluster))
    return Site(
        profile.path.stem,
        parallel or profile.parallel,
        gpus=lambda stage: profile.resources(stage).gpus,
        processes=lambda node: count_of(node.stage, node.values, load_table(QSD), profile.resources(node.stage).gpus),
    )


@dataclass(frozen=True)
class Cost:
    """The estimate of one stage, and what it comes from."""

    seconds: float
    size: float
    origin: str
    records: int


class Estimator:
    """Estimates of stages; stages that do the same work are worked out once.

    Args:
        plan: its stages are estimated.
        store: has the records.
        site: where they are to run.
    """

    def __init__(self, plan: Plan, store: Store, site: Site) -> None:
        self._site = site
        self._counts = Counts(counted_pairs(store, plan.nodes.values()))
        kinds = {node.stage for node in plan.nodes.values()}
        self._timings = {stage: read_timings(store, stage, self._counts) for stage in sorted(kinds)}
        self._known: dict[tuple[str, Work, int], Cost] = {}

    def cost(self, node: StageNode) -> Cost:
        """The estimate of a stage."""
        work = self.work(node)
        same = node.stage, work, self._site.processes(node)
        cost = self._known.get(same)
        if cost is None:
            cost = self._known[same] = self._cost(node, *same[1:])
        return cost

    def work(self, node: StageNode) -> Work:
        """How much there is to do in a stage."""
        return work_of(node.stage, node.values, self._counts)

    def _cost(self, node: StageNode, work: Work, processes: int) -> Cost:
        machine = Machine(self._site.gpus(node.stage) > 0, int(node.values["threads"]))
        alone = modelled_seconds(node.stage, node.values, work.amount, machine)
        place = Destination(self._site.on_slurm, machine.gpu if STAGES[node.stage].uses_gpu else None)
        from_records = estimate_from_records(self._timings[node.stage], work, place, (alone - STARTUP_S) / work.amount)
        if from_records is not None:
            origin = RECORDS if from_records.same_place else ELSEWHERE
            if from_records.mostly_modelled(work.amount, processes):
                origin += AND_MODEL
            return Cost(from_records.seconds(work.amount, processes), from_records.size, origin, from_records.records)
        seconds = modelled_seconds(node.stage, node.values, work.amount, replace(machine, processes=processes))
        return Cost(seconds, modelled_bytes(node.stage, node.values, work.output_size), MODEL, 0)

    @property
    def remarks(self) -> list[str]:
        """What was assumed of the data, one line each."""
        return list(self._counts.remarks.values())


def estimate(plan: Plan, store: Store, states: Mapping[str, str], site: Site) -> dict[str, Any]:
    """Hours, GPU-hours, wall-clock and disk of what is left of a plan, as plain values; ``states``: key -> state."""
    estimator = Estimator(plan, store, site)
    costs = {key: estimator.cost(node) for key, node in plan.nodes.items()}
    dropped = with_followers(plan.nodes, {key for key in plan.nodes if states[key] == DIVERGED})  # will not run
    left = {key: cost.seconds for key, cost in costs.items() if states[key] != DONE and key not in dropped}
    for key in left:
        if states[key] == RUNNING:
            left[key] *= 1 - _share_done(store, plan.nodes[key])
    done = [key for key in plan.nodes if key not in left]
    once = sum(cost.seconds for cost in costs.values())
    alone = sum(cost.seconds * plan.alone[key] for key, cost in costs.items())
    kinds = {stage: _kind(stage, plan, costs, left, site) for stage in plan.order if plan.unique[stage]}
    return {
        "place": site.name,
        "parallel": site.parallel,
        "hours": sum(left.values()) / 3600,
        "gpu_hours": sum(kind["gpu_hours"] for kind in kinds.values()),
        "wall_clock_seconds": makespan(plan.nodes, done, left, site.parallel),
        "disk_bytes": round(sum(costs[key].size for key in left)),
        "saved_hours": max(0.0, alone - once) / 3600,
        "saved_share": max(0.0, 1 - once / alone) if alone else 0.0,
        "stages": kinds,
        "assumed": estimator.remarks,
    }


def _kind(stage: str, plan: Plan, costs: Mapping[str, Cost], left: Mapping[str, float], site: Site) -> dict[str, Any]:
    """The numbers of one kind of stage; seconds each are of those that are left, or of all if none is."""
    keys = [key for key, node in plan.nodes.items() if node.stage == stage]
    remaining = [key for key in keys if key in left]
    shown = remaining or keys
    hours = sum(left[key] for key in remaining) / 3600
    each = sorted(costs[key].seconds for key in shown)
    gpus = {key: max(site.gpus(stage), site.processes(plan.nodes[key])) for key in remaining if site.gpus(stage)}
    return {
        "left": len(remaining),
        "seconds_each": each[len(each) // 2],
        "hours": hours,
        "gpu_hours": sum(left[key] * count for key, count in gpus.items()) / 3600,
        "disk_bytes": round(sum(costs[key].size for key in remaining)),
        "from": dict(Counter(costs[key].origin for key in shown)),
        "records": max(costs[key].records for key in shown),
    }


def _share_done(store: Store, node: StageNode) -> float:
    report = progress(store, node)
    return min(1.0, report["done"] / report["total"]) if report and report["total"] else 0.0
