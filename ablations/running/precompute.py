"""Processes that do the common work of stages before these run: one pass over the images for all reward models.

A kind of stage may name such work (``qsd.stages.stage_spec.Precompute``). Stages of it that are left and have the same
inputs form a group; its processes are scheduled, claimed, logged and requeued like stages, but make no artefact.
Whatever becomes of them, the stages run afterwards and do what is missing.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.grid.keys import StageNode
from ablations.json_shapes import anything, fields, mapping, read_shaped, text, whole
from ablations.running import execution_overrides
from ablations.running.verify_job import check_inputs
from qsd.config.digest import hash_of
from qsd.run_store import names_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ablations.grid.keys import StageTable
    from ablations.store.artefacts import Store
    from ablations.store.jobs import Job
    from qsd.runtime import Report

PRECOMPUTE = "ahead"
"""The kind of these processes in a store, which had this name before: ``jobs/ahead``, ``attempts/ahead``."""
_SHARE = fields(stage=text, members=mapping(mapping(anything)), number=whole, count=whole)
PRECOMPUTE_JOB = fields(version=whole, inputs=mapping(text), values=mapping(anything), meaning=_SHARE)
"""The shape of their job files."""


@dataclass(frozen=True, eq=False)
class PrecomputeGroup:
    """Stages with common work, and the processes that do it.

    Attributes:
        stage: their kind.
        members: the stages; all are left to do.
        processes: one node each. Its ``meaning`` says what it does: {"stage", "members": {key: values}, "number",
            "count"}.
    """

    stage: str
    members: tuple[StageNode, ...]
    processes: tuple[StageNode, ...]


MOST = 64
"""Processes that share common work on one machine; on a cluster, an array's size."""


def groups(nodes: Mapping[str, StageNode], table: StageTable, most: int) -> list[PrecomputeGroup]:
    """The groups among the stages that are left that are worth it: of several stages, or with several processes.

    Args:
        nodes: the stages that are left.
        table: all kinds of stages.
        most: processes per group.
    """
    by_inputs: dict[tuple[Any, ...], list[StageNode]] = {}
    for node in nodes.values():
        if table.STAGES[node.stage].precompute is not None:
            by_inputs.setdefault((node.stage, node.version, *sorted(node.inputs.items())), []).append(node)
    group_list = []
    for members in by_inputs.values():
        shared_work = table.STAGES[members[0].stage].precompute
        assert shared_work is not None
        count = max(1, min(most, max(shared_work.processes(node.values) for node in members)))
        if len(members) > 1 or count > 1:
            group_list.append(_group(members, count))
    return group_list


def _group(members: list[StageNode], count: int) -> PrecomputeGroup:
    first = members[0]
    values = {node.key: node.values for node in sorted(members, key=lambda node: node.key)}
    processes = []
    for number in range(count):
        about = {"stage": first.stage, "number": number, "count": count}
        key = hash_of({PRECOMPUTE: about, "members": list(values)})
        meaning = {**about, "members": {key: dict(flat) for key, flat in values.items()}}
        processes.append(StageNode(PRECOMPUTE, key, first.version, meaning, first.inputs, first.values))
    return PrecomputeGroup(first.stage, tuple(members), tuple(processes))


def label(node: StageNode) -> str:
    """What a person calls such a process: ``precompute score for 3 stages, process 2 of 4``."""
    stages = len(node.meaning["members"])
    part = f", process {node.meaning['number'] + 1} of {node.meaning['count']}" if node.meaning["count"] > 1 else ""
    return f"precompute {node.meaning['stage']} for {stages} stage{'s' * (stages != 1)}{part}"


def summary(group_list: list[PrecomputeGroup]) -> list[str]:
    """What is done beforehand, one line per group: ``precompute score for 2 stages, in 4 processes``."""
    lines = []
    for group in group_list:
        stages, count = len(group.members), len(group.processes)
        processes = f", in {count} processes" if count > 1 else ""
        lines.append(f"precompute {group.stage} for {stages} stage{'s' * (stages != 1)}{processes}")
    return lines


def insert_before_members(nodes: Mapping[str, StageNode], group_list: list[PrecomputeGroup]) -> dict[str, StageNode]:
    """The nodes with every group's processes before the first of its members, and so behind their inputs."""
    before = {member.key: group for group in reversed(group_list) for member in group.members}
    placed: dict[str, StageNode] = {}
    for key, node in nodes.items():
        if key in before:
            placed.update((process.key, process) for process in before[key].processes)
        placed[key] = node
    return placed


def run(job: Job, store: Store, table: StageTable, report: Report) -> None:
    """Do a process's share for those of its stages that are still left.

    Raises:
        UserError: an input is missing, or what the work itself raises.
    """
    from qsd.config.load import build
    from qsd.runtime import PrecomputeContext

    stage, members = job.meaning["stage"], job.meaning["members"]
    check_inputs(job, store)
    left = [
        build({**values, **execution_overrides.read(store, stage, key)})
        for key, values in members.items()
        if not store.is_done(stage, key)
    ]
    shared_work = table.STAGES[stage].precompute
    if shared_work is None or not left:
        return
    module, _, function = shared_work.entry.partition(":")
    inputs = {name: store.artefact(name, key) for name, key in job.inputs.items()}
    shared = store.shared(stage, job.version, job.inputs)
    context = PrecomputeContext(left, inputs, shared, job.meaning["number"], job.meaning["count"], report)
    getattr(importlib.import_module(module), function)(context)


def on_record(store: Store, keys: Mapping[str, Any]) -> dict[str, StageNode]:
    """The processes that were launched for stages among ``keys``, of which some are left, by their job files."""
    processes = {}
    done: dict[str, set[str]] = {}
    for path, content in job_files(store):
        stage = content["meaning"]["stage"]
        if stage not in done:
            done[stage] = store.present(stage)
        if keys.keys() & (content["meaning"]["members"].keys() - done[stage]):
            key = path.name.partition(".")[0]
            fields = (content[name] for name in ("version", "meaning", "inputs", "values"))
            processes[key] = StageNode(PRECOMPUTE, key, *fields)
    return dict(sorted(processes.items(), key=lambda item: (item[1].meaning["stage"], item[1].meaning["number"])))


def job_files(store: Store) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Path and content of the job of every such process."""
    folder = store.root / "jobs" / PRECOMPUTE
    for name in sorted(names_in(folder)):
        content = read_shaped(folder / name, PRECOMPUTE_JOB)
        if content is not None:
            yield folder / name, content
