"""Put stages into SLURM's queue, one sbatch per array, and record each array as it goes in.

An array is recorded before sbatch is called, without an id, and again after it. What a kill leaves between the two, or
between a held array and its release, the next launch finds by the record and cancels.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.running.precompute import PRECOMPUTE
from ablations.running.processes import count_of
from ablations.slurm.arrays import ANY, batches, waits
from ablations.slurm.entry import run_job
from ablations.slurm.profile import FINISH
from ablations.slurm.sbatch import RefusedError, Sbatch, scancel, scontrol
from ablations.store.jobs import Job, load_table
from ablations.store.launches import Array, launches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ablations.grid.keys import StageNode
    from ablations.running.precompute import PrecomputeGroup
    from ablations.slurm.arrays import ArrayDependencies
    from ablations.slurm.profile import Profile, Resources
    from ablations.store.artefacts import Store
    from ablations.store.launches import Launch

_WRITERS = 16
"""Threads that write job files: each waits for the disk, most of all for a shared one."""


def cancel_incomplete(store: Store, cluster: str) -> None:
    """Cancel what was left by launchers that were killed between submitting an array and releasing it.

    Args:
        store: where the launches are recorded.
        cluster: the name of this cluster; jobs of another one cannot be cancelled from here.
    """
    for launch in launches(store):
        if launch.cluster != cluster:
            continue
        for number, array in launch.records():
            if not array.complete:
                # Without an id it is unknown whether sbatch succeeded: cancel by name, which no other job has.
                scancel(*([array.job] if array.job else ["--me", f"--name={array.name}"]))
                launch.forget(number)


def job_name(stage: str, sweep: str, unique: str) -> str:
    """The name of an array in the queue."""
    return f"{stage}:{sweep}:{unique}"


def dependency_of(needs: ArrayDependencies | str | None) -> tuple[str | None, bool]:
    """What sbatch is given as the dependency of an array, and whether its elements get their own while it is held."""
    return (needs, False) if isinstance(needs, str | None) else (needs.dependency, bool(needs.single))


class Queue:
    """Everything that one launch puts into SLURM's queue.

    Args:
        launch: where it is recorded.
        store: where the stages work.
        profile: the site.
        code: folder of the code that the jobs run.
        table: module with the stage table.
        largest: elements of one array.

    Attributes:
        arrays: how often sbatch was called for stages.
    """

    def __init__(self, launch: Launch, store: Store, profile: Profile, code: Path, table: str, largest: int) -> None:
        self._launch, self._store, self._profile, self._table = launch, store, profile, table
        self._code, self._largest = code, largest
        self._root = Path.cwd()
        self._sbatch = Sbatch(profile, store.root / "submitit" / launch.id, code, self._root)
        self.arrays = 0

    def submit(
        self,
        nodes: Mapping[str, StageNode],
        queued: Mapping[str, str],
        holds: Mapping[str, Sequence[str]],
        groups: Sequence[PrecomputeGroup] = (),
    ) -> dict[str, str]:
        """Submit stages, each to wait for those of its inputs that are in the queue.

        Args:
            nodes: the stages by key, inputs before their users.
            queued: key -> job of stages in the queue already.
            holds: key -> further jobs to wait for.
            groups: whose common work is done beforehand, by an array that the stages wait for however it ends.

        Returns:
            key -> job of ``nodes`` and of ``queued``.

        Raises:
            RefusedError: SLURM refused an array; those before it stay.
        """
        jobs = dict(queued)
        # A precompute is submitted right before the first array that waits for it, when its own inputs have jobs.
        group_of = {member.key: group for group in groups for member in group.members}
        precomputes: dict[PrecomputeGroup, str] = {}
        for batch in batches(nodes, self._profile.resources, self._largest):
            for group in dict.fromkeys(group_of[key] for key in batch.keys if key in group_of):
                if group not in precomputes:
                    precomputes[group] = self._put_precompute(group, jobs)
            needs = waits(
                [
                    [
                        *(jobs[up] for up in nodes[key].inputs.values() if up in jobs),
                        *holds.get(key, ()),
                        *([f"{ANY}{precomputes[group_of[key]]}"] if key in group_of else []),
                    ]
                    for key in batch.keys
                ]
            )
            paths = self._write_all([nodes[key] for key in batch.keys])
            array = self._put(run_job, paths, batch.stage, batch.resources, needs, batch.keys)
            self.arrays += 1
            jobs.update((key, array.element(index)) for index, key in enumerate(batch.keys))
        return jobs

    def _put_precompute(self, group: PrecomputeGroup, jobs: Mapping[str, str]) -> str:
        """Submit the processes of a group, which ask for the same resources as its stages; returns the job."""
        needs = waits([[jobs[up] for up in node.inputs.values() if up in jobs] for node in group.processes])
        paths = self._write_all(group.processes)
        resources = self._profile.resources(group.stage)
        return self._put(run_job, paths, PRECOMPUTE, resources, needs, [node.key for node in group.processes]).job

    def submit_last(self, function: Callable[[str], None], path: Path, after: Sequence[str]) -> None:
        """Submit a job that runs when the jobs in ``after`` have ended, however they ended."""
        resources = self._profile.resources(FINISH)
        dependency = f"afterany:{':'.join(after)}" if after else None
        self._put(function, [str(path)], FINISH, resources, dependency, ())

    def _write_all(self, nodes: Sequence[StageNode]) -> list[str]:
        with ThreadPoolExecutor(_WRITERS) as writers:
            return list(writers.map(self._write, nodes))

    def _write(self, node: StageNode) -> str:
        gpus = self._profile.resources(node.stage).gpus
        processes = count_of(node.stage, node.values, load_table(self._table), gpus)
        return self._path(Job.of(node, self._table, self._store.root, self._root, self._code, processes))

    def _path(self, job: Job) -> str:
        """The path that the job is started with; its file is written."""
        return str(job.write())

    def _put(
        self,
        function: Callable[[str], None],
        paths: Sequence[str],
        stage: str,
        resources: Resources,
        needs: ArrayDependencies | str | None,
        keys: Sequence[str],
    ) -> Array:
        # The name is unique, so that an array whose id was lost in a kill can still be cancelled by it.
        name = job_name(stage, self._launch.sweep, secrets.token_hex(4))
        array = Array("", len(paths) == 1, stage, str(resources), keys, name)
        number = self._launch.record(array)
        dependency, updates = dependency_of(needs)
        try:
            job = self._sbatch.submit(function, paths, array.name, resources, dependency, updates)
            array = replace(array, job=job, held=updates)
            self._launch.record(array, number)
            # Elements that wait for different jobs get their dependencies one by one, while the array is held.
            if not isinstance(needs, str | None) and updates:
                scontrol([*needs.updates(job), f"release {job}"])
                array = replace(array, held=False)
                self._launch.record(array, number)
        except RefusedError as error:
            if array.job:
                scancel(array.job)
            self._launch.forget(number)
            raise RefusedError(
                f"SLURM refused the {stage} jobs ({resources}): {error}\n"
                f"  {self.arrays} arrays submitted before it stay in the queue; fix {self._profile.path} or wait, "
                "then run the same command again"
            ) from None
        return array
