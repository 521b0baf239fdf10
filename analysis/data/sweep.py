"""The cells of a sweep and where their artefacts lie: what ``cells.json`` says, without reading any score."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.data.looks import read_looks
from analysis.data.tuning import read_tuning
from qsd.errors import UserError
from qsd.run_store import RunStore

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.data.looks import Looks
    from analysis.data.tuning import Tuning

HELD_OUT_SPLITS = ("evaluation", "held_out")
SEEN_SPLIT = "seen"
FINISHED, DIVERGED, FAILED, UNFINISHED = STATES = ("finished", "diverged", "failed", "unfinished")
_ROLE_ORDER = {"grid": 1, "control": 2, "base": 3}


@dataclass(frozen=True)
class Replicate:
    """One training seed of one cell, or the untouched base model.

    Attributes:
        name: of the cell, without the seed; replicates of a cell share it.
        role: ``grid``, ``control`` or ``base``.
        seed: of training; None for the base model.
        axes: dotted setting to value, what this cell varies.
        base: the base model's cell that it is compared with: of the same generation and evaluation.
        scorers, splits: what it is evaluated with.
        conflicts: scorer -> why it is no independent judge of this cell, for example that it labelled the pairs.
        stages: stage name to artefact key.
        state: ``finished``, ``diverged``, ``failed`` or ``unfinished``, when ``cells.json`` was written.
        reason: why it diverged or failed.
    """

    name: str
    role: str
    is_baseline: bool
    axes: dict[str, Any]
    seed: int | None
    cell_id: str
    base: str
    scorers: tuple[str, ...]
    splits: tuple[str, ...]
    conflicts: dict[str, tuple[str, ...]]
    stages: dict[str, str]
    state: str
    reason: str | None

    @property
    def label(self) -> str:
        """Cell and seed for messages."""
        return f"'{self.name}'" if self.seed is None else f"'{self.name}' seed {self.seed}"


@dataclass(frozen=True)
class PrimaryScores:
    """The scorer and split whose comparisons decide, the others being exploratory; ``stated``: in the sweep's file."""

    scorer: str
    split: str
    stated: bool


@dataclass(frozen=True)
class SweepFolder:
    """A sweep as it was planned: ``replicates`` holds one entry per cell and seed, in the order of ``cells.json``.

    ``labels`` is ``human`` or ``simulated``: who said which image of a training pair is better. ``looks``: where the
    comparisons stand, if seeds are added in looks; the replicates are then those that are needed. ``tuning``: how the
    settings of the cells were chosen; before that, trained cells have no stages.
    """

    folder: Path
    name: str
    experiment: str
    question: str
    git_commit: str
    baseline: str
    labels: str
    primary: PrimaryScores
    replicates: tuple[Replicate, ...]
    looks: Looks | None = None
    tuning: Tuning | None = None

    def cell_names(self) -> list[str]:
        """The cells as tables show them: baseline, grid, controls, base model."""
        first = {replicate.name: replicate for replicate in reversed(self.replicates)}
        order = list(dict.fromkeys(replicate.name for replicate in self.replicates))
        return sorted(order, key=lambda name: 0 if first[name].is_baseline else _ROLE_ORDER[first[name].role])

    def of_cell(self, name: str) -> list[Replicate]:
        """The replicates of a cell, by seed."""
        replicates = [replicate for replicate in self.replicates if replicate.name == name]
        return sorted(replicates, key=lambda replicate: -1 if replicate.seed is None else replicate.seed)


def split_order(split: str) -> tuple[int, str]:
    """Sort key of a split: held-out prompts first, seen ones last."""
    return (0 if split in HELD_OUT_SPLITS else 2 if split == SEEN_SPLIT else 1, split)


def read_sweep(folder: Path) -> SweepFolder:
    """Read ``cells.json``.

    Raises:
        UserError: the file is absent or is not what the grid runner writes.
    """
    path = folder / "cells.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; 'ablate run' writes it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        replicates = tuple(
            Replicate(
                name=cell["name"],
                role=cell["role"],
                is_baseline=cell["is_baseline"],
                axes=dict(cell["axes"]),
                seed=cell["seed"],
                cell_id=cell["cell_id"],
                base=cell["base"],
                scorers=tuple(cell["scorers"]),
                splits=tuple(cell["splits"]),
                conflicts={scorer: tuple(reasons) for scorer, reasons in cell["conflicts"].items()},
                stages=dict(cell["stages"]),
                state=cell["state"],
                reason=cell["reason"],
            )
            for cell in content["cells"]
        )
        sweep = SweepFolder(
            folder=folder,
            name=content["sweep"],
            experiment=content["experiment"],
            question=content["question"],
            git_commit=content["git_commit"] or "unknown",
            baseline=content["baseline"],
            labels=content["labels"],
            primary=PrimaryScores(**content["primary"]),
            replicates=replicates,
            looks=read_looks(content.get("looks")),
            tuning=read_tuning(content.get("tuning")),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a list of cells ({error!r}); delete it and run the sweep again") from error
    _check(path, sweep)
    return sweep


def _check(path: Path, sweep: SweepFolder) -> None:
    seen: set[tuple[str, int | None]] = set()
    for replicate in sweep.replicates:
        if replicate.role not in _ROLE_ORDER:
            raise UserError(f"{path}: cell {replicate.label} has the unknown role {replicate.role!r}")
        if replicate.state not in STATES:
            raise UserError(f"{path}: cell {replicate.label} has the unknown state {replicate.state!r}")
        if (replicate.name, replicate.seed) in seen:
            raise UserError(f"{path}: cell {replicate.label} is listed twice")
        seen.add((replicate.name, replicate.seed))
    if sweep.baseline not in {replicate.name for replicate in sweep.replicates}:
        raise UserError(f"{path}: the baseline {sweep.baseline!r} is not among the cells")


def artefact(runs: Path, stage: str, key: str | None) -> Path | None:
    """The folder of a finished stage in the run store ``runs`` (``qsd.run_store``), else None."""
    return RunStore(runs).finished(stage, key)


def check_content(runs: Path, stage: str, key: str) -> None:
    """Compare the files of a finished stage with the digests in its record; each is read once per process.

    Raises:
        UserError: one of them is not what was written.
    """
    store = RunStore(runs)
    problem = store.damage(stage, key)
    if problem is not None:
        folder = store.artefact(stage, key)
        raise UserError(f"{folder}: {problem}; remove the folder, and 'ablate run' computes it again")
