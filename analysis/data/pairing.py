"""Scores as arrays whose axes are seeds, prompts and images, the same prompts in the same order for every cell."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np

from analysis.data.sweep import split_order
from qsd.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from analysis.data.load import Results

    Floats = NDArray[np.float64]

_NAMED = 5


@dataclass(frozen=True)
class Cube:
    """Scores of one cell: ``values`` is [seeds, prompts, images]; ``seeds`` is (None,) for the base model."""

    seeds: tuple[int | None, ...]
    values: Floats

    def mean(self) -> float:
        """Over images, then seeds and prompts."""
        return float(np.nanmean(self.values, axis=2).mean())

    def of_seed(self, seed: int) -> float:
        """Over the images and then the prompts of one training seed."""
        return float(np.nanmean(self.values[self.seeds.index(seed)], axis=1).mean())


@dataclass(frozen=True)
class Panel:
    """All cells under one scorer on one split.

    Attributes:
        prompts: prompt ids, the order of the second axis of every cube.
        cells: cell name to scores; cells without any finished replicate are absent. An image that has no number in one
            replicate has none in any, so that all cells are compared on the same images.
        left_out: replicate -> its images without a number.
        images_left_out: (prompt, image) that are left out of every cell because some replicate has no number there.
        failed: (cell, seed) -> why this replicate takes no part.
    """

    split: str
    scorer: str
    revision: str
    unit: str
    prompts: tuple[str, ...]
    cells: dict[str, Cube]
    left_out: dict[str, int] = field(default_factory=dict)
    images_left_out: int = 0
    failed: dict[tuple[str, int | None], str] = field(default_factory=dict)


MOST_NOT_FINITE = 0.02
"""Share of a replicate's images, over all splits, that a scorer may give no number; above it the replicate fails."""
MOST_LEFT_OUT = 0.1
"""Share of the images of a panel that may be left out of every cell; above it the replicates that lost most fail."""


def panels(results: Results) -> list[Panel]:
    """One panel per split and scorer, held-out splits first.

    Raises:
        UserError: two replicates were not scored on the same prompts and images, a score is there twice, or a scorer
            has two revisions or units within the sweep.
    """
    groups = results.scores.groupby(["split", "scorer"], observed=True, sort=True)
    failed = _failed(results.scores)
    by_place = {
        (str(split), str(scorer)): _panel(str(split), str(scorer), group, failed.get(str(scorer), {}))
        for (split, scorer), group in groups
    }
    return [by_place[key] for key in sorted(by_place, key=lambda key: (split_order(key[0]), key[1]))]


def _failed(scores: pd.DataFrame) -> dict[str, dict[tuple[str, int | None], str]]:
    """Scorer -> (cell, seed) -> why this replicate takes no part under it: too few finite scores."""
    absent = (~np.isfinite(scores["score"])).rename("absent")
    keys = [scores["scorer"].astype(str), scores["cell"].astype(str), scores["seed"].fillna(-1).astype(int)]
    reasons: dict[str, dict[tuple[str, int | None], str]] = {}
    # -1 stands for the base model, which has no seed: groupby drops missing values.
    for key, row in absent.groupby(keys).agg(["sum", "size"]).iterrows():
        scorer, cell, seed = cast("tuple[str, str, int]", key)
        if row["sum"] > MOST_NOT_FINITE * row["size"]:
            reason = f"{row['sum']} of {row['size']} scores of {scorer} are not finite"
            reasons.setdefault(scorer, {})[cell, None if seed < 0 else int(seed)] = reason
    return reasons


def _panel(split: str, scorer: str, scores: pd.DataFrame, too_few: dict[tuple[str, int | None], str]) -> Panel:
    revision = _single(scores, "revision", scorer)
    unit = _single(scores, "unit", scorer)
    ordered = scores.assign(seed=scores["seed"].fillna(-1).astype(int), prompt_id=scores["prompt_id"].astype(str))
    ordered = ordered.sort_values(["cell", "seed", "prompt_id", "image_index"], kind="stable")
    prompts: NDArray[np.object_] | None = None
    images: NDArray[np.int64] | None = None
    first = ""
    cubes: dict[str, dict[int | None, Floats]] = {}
    failed: dict[tuple[str, int | None], str] = {}
    for key, replicate in ordered.groupby(["cell", "seed"], observed=True, sort=False):
        cell, seed = cast("tuple[str, int]", key)
        label = f"'{cell}'" if seed < 0 else f"'{cell}' seed {seed}"
        where = f"split {split}, scorer {scorer}: cell {label}"
        own_prompts = replicate["prompt_id"].to_numpy(dtype=object)
        own_images = replicate["image_index"].to_numpy(dtype=np.int64)
        if prompts is None or images is None:
            _require_rectangle(own_prompts, own_images, where)
            prompts, images, first = own_prompts, own_images, label
        elif not (np.array_equal(own_prompts, prompts) and np.array_equal(own_images, images)):
            _raise_unpaired(where, first, (own_prompts, own_images), (prompts, images))
        names = np.unique(prompts)
        values = replicate["score"].to_numpy(dtype=np.float64).reshape(len(names), -1)
        training_seed = None if seed < 0 else int(seed)
        if (str(cell), training_seed) in too_few:
            failed[str(cell), training_seed] = too_few[str(cell), training_seed]
            continue
        cubes.setdefault(str(cell), {})[training_seed] = values
    assert prompts is not None
    names = np.unique(prompts)
    failed |= _drop_replicates_that_lost_most(cubes, scorer)
    left_out = {
        f"'{cell}'" if seed is None else f"'{cell}' seed {seed}": int(np.isnan(values).sum())
        for cell, by_seed in cubes.items()
        for seed, values in by_seed.items()
        if np.isnan(values).any()
    }
    kept, images_left_out = _leave_out(cubes, len(names))
    cells = {cell: Cube(tuple(by_seed), np.stack(list(by_seed.values()))) for cell, by_seed in cubes.items()}
    prompt_ids = tuple(str(name) for name, keep in zip(names, kept, strict=True) if keep)
    return Panel(split, scorer, revision, unit, prompt_ids, cells, left_out, images_left_out, failed)


def _drop_replicates_that_lost_most(
    cubes: dict[str, dict[int | None, Floats]], scorer: str
) -> dict[tuple[str, int | None], str]:
    """Take replicates out until no more than a tenth of the images are lost to all; why, by (cell, seed)."""
    failed: dict[tuple[str, int | None], str] = {}
    while True:
        lost = {(cell, seed): np.isnan(v) for cell, by_seed in cubes.items() for seed, v in by_seed.items()}
        if not lost or np.logical_or.reduce(list(lost.values())).mean() <= MOST_LEFT_OUT:
            return failed
        cell, seed = max(lost, key=lambda replicate: int(lost[replicate].sum()))
        count = int(lost[cell, seed].sum())
        failed[cell, seed] = f"with its {count} scores of {scorer} that are not finite, too few images are left"
        del cubes[cell][seed]
        if not cubes[cell]:
            del cubes[cell]


def _leave_out(cubes: dict[str, dict[int | None, Floats]], prompts: int) -> tuple[NDArray[np.bool_], int]:
    """Take images without a number in some replicate out of all; [prompts] which remain, number of images left out."""
    replicates = [values for by_seed in cubes.values() for values in by_seed.values()]
    kept = np.ones(prompts, dtype=bool)
    if not replicates:
        return kept, 0
    scored_by_all = np.logical_and.reduce([np.isfinite(values) for values in replicates])
    kept = scored_by_all.any(axis=1)
    for by_seed in cubes.values():
        for seed, values in by_seed.items():
            by_seed[seed] = np.where(scored_by_all, values, np.nan)[kept]
    return kept, int((~scored_by_all).sum())


def _single(scores: pd.DataFrame, column: str, scorer: str) -> str:
    values = sorted(str(value) for value in scores[column].unique())
    if len(values) > 1:
        cells = {value: str(scores.loc[scores[column] == value, "cell"].iloc[0]) for value in values}
        examples = ", ".join(f"{value!r} in cell '{cell}'" for value, cell in cells.items())
        raise UserError(f"scorer {scorer} has {len(values)} {column}s ({examples}); evaluate all cells with one")
    return values[0]


def _require_rectangle(prompts: NDArray[np.object_], images: NDArray[np.int64], where: str) -> None:
    """Every prompt has the same image indices, each once."""
    pairs = list(zip(prompts, images, strict=True))
    twice = sorted({str(a[0]) for a, b in pairwise(pairs) if a == b})
    if twice:
        raise UserError(f"{where} has more than one score for an image of prompts {_some(twice)}")
    names, counts = np.unique(prompts, return_counts=True)
    expected = images[: counts[0]]
    if len(set(counts.tolist())) > 1 or not np.array_equal(images, np.tile(expected, len(names))):
        usual = int(np.median(counts))
        odd = [str(name) for name, count in zip(names, counts, strict=True) if count != usual] or [str(names[0])]
        raise UserError(f"{where} has not the same image indices for every prompt: {_some(odd)}; evaluate it again")


def _raise_unpaired(
    where: str,
    first: str,
    own: tuple[NDArray[np.object_], NDArray[np.int64]],
    other: tuple[NDArray[np.object_], NDArray[np.int64]],
) -> None:
    left, right = set(zip(*own, strict=True)), set(zip(*other, strict=True))
    only_own, only_other = ({str(prompt) for prompt, _ in side} for side in (left - right, right - left))
    if not only_own and not only_other:
        raise UserError(f"{where} has more than one score for the same image; evaluate it again")
    differences = [f"only the first has prompts {_some(sorted(only_own))}"] if only_own else []
    differences += [f"only the second has prompts {_some(sorted(only_other))}"] if only_other else []
    raise UserError(
        f"{where} and cell {first} are not paired: {'; '.join(differences)}. "
        "Evaluate both on the same prompts and images"
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
