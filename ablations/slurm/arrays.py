"""How the stages that are left become job arrays, and what each element waits for. Pure: no SLURM, no files."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ablations.grid.keys import StageNode
    from ablations.slurm.profile import Resources

_MOST_PER_UPDATE = 50
ANY = "any:"
"""Before a job in what an element needs: wait for its end, however it ends."""


@dataclass(frozen=True)
class Batch:
    """What one sbatch will submit: stages of one kind that ask for the same; element i runs ``keys[i]``."""

    stage: str
    resources: Resources
    keys: tuple[str, ...]


@dataclass(frozen=True)
class ArrayDependencies:
    """What the elements of an array wait for, in the cheapest form that SLURM has for it.

    Attributes:
        common: jobs that every element waits for.
        paired: arrays of which element i waits for element i.
        single: (elements, jobs): what only some elements wait for; empty if ``paired`` says it.
    """

    common: tuple[str, ...]
    paired: tuple[str, ...]
    single: tuple[tuple[tuple[int, ...], tuple[str, ...]], ...]

    @property
    def dependency(self) -> str | None:
        """For ``sbatch --dependency``; None if there is nothing that holds for all elements."""
        parts = [_dependency(self.common)] if self.common else []
        parts += [f"aftercorr:{':'.join(self.paired)}"] if self.paired else []
        return ",".join(parts) or None

    def updates(self, array: str) -> Iterator[str]:
        """Commands for scontrol that set the dependencies of elements of a held array."""
        for elements, jobs in self.single:
            for begin in range(0, len(elements), _MOST_PER_UPDATE):
                some = elements[begin : begin + _MOST_PER_UPDATE]
                element = f"{some[0]}" if len(some) == 1 else f"[{','.join(map(str, some))}]"
                yield f"update jobid={array}_{element} dependency={_dependency((*self.common, *jobs))}"


def batches(nodes: Mapping[str, StageNode], resources_of: Callable[[str], Resources], most: int) -> list[Batch]:
    """One batch per (level, kind of stage, resources), none larger than ``most``, inputs before their users.

    A stage's level is the longest way to it from a stage that waits for none of ``nodes``.

    Args:
        nodes: the stages to submit by key, inputs before their users.
        resources_of: kind of stage -> what it asks for.
        most: elements of one array.
    """
    levels: dict[str, int] = {}
    groups: dict[tuple[int, str, Resources], list[str]] = defaultdict(list)
    for key, node in nodes.items():
        levels[key] = max((1 + levels[up] for up in node.inputs.values() if up in levels), default=0)
        groups[levels[key], node.stage, resources_of(node.stage)].append(key)
    ordered = sorted(groups.items(), key=lambda item: item[0][0])
    return [
        Batch(stage, resources, tuple(keys[begin : begin + most]))
        for (_, stage, resources), keys in ordered
        for begin in range(0, len(keys), most)
    ]


def waits(needs: Sequence[Sequence[str]]) -> ArrayDependencies:
    """The cheapest form of what each element of an array needs; ``needs[i]`` lists jobs as ``123`` or ``123_4``.

    A job may stand behind :data:`ANY`.
    """
    first, *others = [dict.fromkeys(jobs) for jobs in needs]
    common = tuple(job for job in first if all(job in jobs for jobs in others))
    rest = [tuple(job for job in jobs if job not in common) for jobs in (first, *others)]
    if not any(rest):
        return ArrayDependencies(common, (), ())
    arrays = {frozenset(_array_at(job, index) for job in jobs) for index, jobs in enumerate(rest)}
    if len(arrays) == 1 and "" not in (paired := next(iter(arrays))):
        return ArrayDependencies(common, tuple(sorted(paired)), ())
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, jobs in enumerate(rest):
        if jobs:
            groups[jobs].append(index)
    return ArrayDependencies(common, (), tuple((tuple(elements), jobs) for jobs, elements in groups.items()))


def _dependency(jobs: Sequence[str]) -> str:
    """``afterok:1:2,afterany:3``."""
    conditions = [f"afterok:{':'.join(good)}"] if (good := [job for job in jobs if not job.startswith(ANY)]) else []
    ends = [job.removeprefix(ANY) for job in jobs if job.startswith(ANY)]
    return ",".join([*conditions, f"afterany:{':'.join(ends)}"] if ends else conditions)


def _array_at(job: str, index: int) -> str:
    """The array whose element ``index`` is ``job``; empty if it is another element, or no element."""
    array, _, element = job.partition("_")
    return array if element == str(index) else ""
