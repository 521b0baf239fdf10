"""The scores of chosen evaluations, and the differences that a look is about, from those of exactly its seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.data.load import read
from analysis.data.pairing import panels
from analysis.data.sweep import FINISHED, PrimaryScores, Replicate, SweepFolder
from analysis.statistics.differences import align
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from analysis.data.pairing import Panel

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """What is compared: ``runs`` is the store, ``scorer`` and ``split`` are the primary ones."""

    runs: Path
    baseline: str
    scorer: str
    split: str


def look_differences(asked: Asked, evaluations: Mapping[str, Mapping[int, str]]) -> dict[str, Floats]:
    """Differences to the baseline [seeds, prompts], mean over images, of every cell whose seeds all have scores.

    Args:
        asked: what is compared.
        evaluations: cell -> training seed -> key of its finished evaluation; the baseline is among them.

    Raises:
        UserError: scores are damaged or not paired, or the split has fewer than two prompts.
    """
    panel = scored_panel(asked, evaluations)
    reference = panel.cells.get(asked.baseline) if panel else None
    if panel is None or reference is None or len(reference.seeds) < len(evaluations[asked.baseline]):
        return {}
    if len(panel.prompts) < 2:
        raise UserError(
            f"split {asked.split} has {len(panel.prompts)} prompt that {asked.scorer} could score in every cell; "
            "looks need at least two: name a split with more prompts in 'primary'"
        )
    differences: dict[str, Floats] = {}
    for name, keys in evaluations.items():
        cube = panel.cells.get(name)
        if name == asked.baseline or cube is None or len(cube.seeds) < len(keys):
            continue
        pair = align(cube, reference)
        assert pair is not None
        differences[name] = pair.differences()
    return differences


def scored_panel(asked: Asked, evaluations: Mapping[str, Mapping[int, str]]) -> Panel | None:
    """The scores of exactly these evaluations under the scorer and on the split that are asked for; None without any.

    Raises:
        UserError: scores are damaged or not paired.
    """
    replicates = tuple(
        _replicate(asked, name, seed, key) for name, keys in evaluations.items() for seed, key in keys.items()
    )
    sweep = SweepFolder(
        folder=asked.runs,
        name="looks",
        experiment="",
        question="",
        git_commit="",
        baseline=asked.baseline,
        labels="",
        primary=PrimaryScores(asked.scorer, asked.split, stated=True),
        replicates=replicates,
    )
    results = read(asked.runs, sweep, asked.scorer)
    return next((panel for panel in panels(results) if panel.split == asked.split), None)


def _replicate(asked: Asked, name: str, seed: int, key: str) -> Replicate:
    return Replicate(
        name=name,
        role="grid",
        is_baseline=name == asked.baseline,
        axes={},
        seed=seed,
        cell_id="",
        base="",
        scorers=(asked.scorer,),
        splits=(asked.split,),
        conflicts={},
        stages={"evaluate": key},
        state=FINISHED,
        reason=None,
    )
