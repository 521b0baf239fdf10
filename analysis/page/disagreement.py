"""Which prompts to look at: where cells differ most, and where judges contradict each other most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]


def picture_scores(
    scores: pd.DataFrame, cells: Sequence[tuple[str, int | None]], prompts: Sequence[str], scorers: Sequence[str]
) -> Scores:
    """The scores of the pictures that are shown: cell × its seed × lowest image index of a prompt.

    Args:
        scores: the long table (``analysis.data.load.Results.scores``).
        cells: (cell, training seed).
        prompts: prompt ids.
        scorers: which ones.

    Returns:
        Scorer × prompt × cell, in each scorer's unit; no number where there is no score.
    """
    values = np.full((len(scorers), len(prompts), len(cells)), np.nan)
    prompt_at = {prompt: number for number, prompt in enumerate(prompts)}
    scorer_at = {scorer: number for number, scorer in enumerate(scorers)}
    for column, (cell, seed) in enumerate(cells):
        of_seed = scores["seed"].isna() if seed is None else scores["seed"] == seed
        own = scores[(scores["cell"] == cell) & of_seed.fillna(value=False)]
        own = own[own["prompt_id"].isin(prompt_at) & own["scorer"].isin(scorer_at)].sort_values("image_index")
        own = own.drop_duplicates(["prompt_id", "scorer"])
        places = zip(*(own[name].tolist() for name in ("scorer", "prompt_id", "score")), strict=True)
        for scorer, prompt, score in places:
            values[scorer_at[scorer], prompt_at[prompt], column] = score
    return values


def cells_disagree(scores: Scores) -> Scores:
    """Scorer × prompt: highest minus lowest score among the cells; no number with fewer than two scores."""
    known = np.isfinite(scores)
    highest = np.where(known, scores, -np.inf).max(axis=2)
    lowest = np.where(known, scores, np.inf).min(axis=2)
    return np.where(known.sum(axis=2) >= 2, highest - lowest, np.nan)


def judges_disagree(scores: Scores) -> Scores:
    """Prompt: the largest gap between two scorers' opinions of one cell, in standard deviations.

    An opinion is the score minus the mean over the cells of the same prompt, divided by the standard deviation of these
    differences over all prompts and cells, so that units do not matter. No number with fewer than two scorers.
    """
    if scores.shape[0] < 2 or scores.shape[2] < 2:
        return np.full(scores.shape[1], np.nan)
    known = np.isfinite(scores)
    counts = known.sum(axis=2, keepdims=True)
    means = np.where(known, scores, 0.0).sum(axis=2, keepdims=True) / np.maximum(counts, 1)
    opinions = np.where(known & (counts >= 2), scores - means, np.nan)
    spread = np.array([np.nanstd(own) if np.isfinite(own).any() else np.nan for own in opinions])[:, None, None]
    standard = np.divide(opinions, spread, out=np.full_like(opinions, np.nan), where=spread > 0)
    both = np.isfinite(standard).sum(axis=0) >= 2
    highest = np.where(np.isfinite(standard), standard, -np.inf).max(axis=0)
    lowest = np.where(np.isfinite(standard), standard, np.inf).min(axis=0)
    gaps = np.where(both, highest - lowest, -np.inf).max(axis=1)
    return np.where(np.isfinite(gaps), gaps, np.nan)


def rounded(values: Scores) -> Any:
    """Nested lists with five significant digits, None for no number: what JSON can hold."""
    if values.ndim > 1:
        return [rounded(part) for part in values]
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
