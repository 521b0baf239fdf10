"""The scores of the settings that a cell is tuned over, all on the same prompts and images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.statistics.look_scores import Asked, scored_panel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class SettingScore:
    """``mean`` over images, prompts and tuning seeds; ``by_seed`` over images and prompts; ``unit`` of both."""

    mean: float
    by_seed: tuple[float, ...]
    unit: str


def setting_scores(
    runs: Path, judge: str, split: str, evaluations: Mapping[str, Mapping[int, str]]
) -> dict[str, SettingScore]:
    """Setting -> its score, for those whose trials all have enough numbers.

    An image to which the judge gave no number in one trial of the cell counts in none of them.

    Args:
        runs: the store.
        judge: the scorer.
        split: of the prompts.
        evaluations: setting -> tuning seed -> key of its finished evaluation.

    Raises:
        UserError: scores are damaged, or the trials were not scored on the same prompts and images.
    """
    panel = scored_panel(Asked(runs, "", judge, split), evaluations)
    if panel is None or not panel.prompts:
        return {}
    scores = {}
    for name, keys in evaluations.items():
        cube = panel.cells.get(name)
        if cube is not None and len(cube.seeds) == len(keys):
            by_seed = [cube.of_seed(seed) for seed in keys]
            scores[name] = SettingScore(cube.mean(), tuple(by_seed), panel.unit)
    return scores
