"""What a sweep would cost with other numbers of training seeds and prompts, by the estimates of its stages."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ablations.cost.estimate import Estimator
from ablations.grid.expand import BASE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.cost.estimate import Site
    from ablations.grid.keys import StageNode
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store


@dataclass(frozen=True)
class Price:
    """Of a whole sweep, from nothing.

    Attributes:
        seconds: kind of stage -> seconds of all such stages together.
        gpu_seconds: of all stages, each times the GPUs that it takes.
    """

    seconds: Mapping[str, float]
    gpu_seconds: float

    @property
    def amount(self) -> float:
        """What is compared: GPU time where there is a GPU, else time."""
        return self.gpu_seconds or sum(self.seconds.values())


class Prices:
    """Prices of a sweep by seeds and prompts.

    A stage that the cells of one seed alone need is counted once per seed; one that cells of several seeds share (and
    the base model's) once. Trials of a tuning are not counted. Stages of equal work are estimated once.

    Args:
        plan: the sweep with two or more training seeds.
        store: has the records.
        site: where the sweep is to run.
    """

    def __init__(self, plan: Plan, store: Store, site: Site) -> None:
        plan = plan.forecast
        assert len(plan.sweep.seeds) > 1, "with one seed, it does not show which stages seeds share"
        self._site = site
        self._estimator = Estimator(plan, store, site)
        self._seeds = len(plan.sweep.seeds)
        shared, by_seed = _shared_and_by_seed(plan)
        self._groups: dict[bool, Counter[tuple[Any, ...]]] = defaultdict(Counter)
        self._example: dict[tuple[Any, ...], StageNode] = {}
        for once, nodes in ((True, shared), (False, by_seed)):
            for node in nodes:
                group = (node.stage, self._estimator.work(node), site.processes(node))
                self._groups[once][group] += 1
                self._example.setdefault(group, node)

    def price(self, seeds: int, prompts: int) -> Price:
        """The price with ``seeds`` training seeds and at most ``prompts`` prompts of each split."""
        seconds: dict[str, float] = defaultdict(float)
        gpu_seconds = 0.0
        for once, groups in self._groups.items():
            for group, count in groups.items():
                node = self._example[group]
                limited = replace(node, values={**node.values, "evaluation.prompts_per_split": prompts})
                times = count if once else count * seeds / self._seeds
                spent = times * self._estimator.cost(limited).seconds
                seconds[node.stage] += spent
                gpus = self._site.gpus(node.stage)
                gpu_seconds += spent * (max(gpus, self._site.processes(node)) if gpus else 0)
        return Price(dict(seconds), gpu_seconds)


def _shared_and_by_seed(plan: Plan) -> tuple[list[StageNode], list[StageNode]]:
    """The unique stages that cells of several seeds (or the base model) need, and those that one seed needs."""
    seeds: dict[str, set[int | None]] = {}
    for cell in plan.cells:
        for node in cell.stages.values():
            seeds.setdefault(node.key, set()).add(None if cell.role == BASE else cell.seed)
    alone = {key for key, users in seeds.items() if len(users) == 1 and None not in users}
    nodes = plan.nodes
    return [node for key, node in nodes.items() if key not in alone], [nodes[key] for key in alone]
