"""The arithmetic of the HPS v2 benchmark: prompts by style, one image each, ten groups in the order of the file.

Per style, the scores (cosines) times 100 are split into ten consecutive groups of equal size (800 prompts: 80 each);
the style's value is the mean of the group means, its spread their *population* standard deviation. Overall is the mean
over all images of all styles. Source: tgxs002/HPSv2 ``evaluation.py``, which goes on without an image that is missing
and so shifts the groups; here that is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GROUPS = 10
_UNIT = 100.0
_SHOWN = 3


@dataclass(frozen=True)
class StyleResult:
    """One style, in hundredths of cosine: the mean of the group means and their population standard deviation."""

    mean: float
    std: float
    images: int


@dataclass(frozen=True)
class BenchmarkResult:
    """All styles in the order in which they were asked for, and the mean over all images."""

    styles: dict[str, StyleResult]
    overall: float


def image_paths(folder: Path, prompts: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """``<style>/00000.jpg``, … by style, one per prompt, all of them there.

    Raises:
        UserError: some are missing; with how many and the first of them.
    """
    paths = {
        style: [folder / style / f"{number:05d}.jpg" for number in range(len(of_style))]
        for style, of_style in prompts.items()
    }
    missing = [path for of_style in paths.values() for path in of_style if not path.is_file()]
    if missing:
        total = sum(map(len, paths.values()))
        first = ", ".join(str(path.relative_to(folder)) for path in missing[:_SHOWN])
        more = ", …" if len(missing) > _SHOWN else ""
        raise UserError(
            f"{folder}: {len(missing)} of {total} images are missing ({first}{more}); "
            f"an image left out would shift the groups, so generate them first"
        )
    return paths


def summarise(scores: Mapping[str, Sequence[float]]) -> BenchmarkResult:
    """Means and spreads of cosines by style, each style's in the order of its prompts.

    Raises:
        UserError: no style, a number of images that makes no ten equal groups, or a score that is not finite.
    """
    import numpy as np

    if not scores:
        raise UserError("the benchmark needs the scores of at least one style")
    styles: dict[str, StyleResult] = {}
    for style, values in scores.items():
        check_groups(style, len(values))
        array = np.asarray(values, dtype=np.float64) * _UNIT
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            raise UserError(f"{style}: the score of image {bad[0]:05d} is {array[bad[0]]}; {len(bad)} are not finite")
        groups = array.reshape(GROUPS, -1).mean(axis=1)
        styles[style] = StyleResult(float(groups.mean()), float(groups.std(ddof=0)), len(array))
    images = sum(result.images for result in styles.values())
    overall = sum(result.mean * result.images for result in styles.values()) / images
    return BenchmarkResult(styles, overall)


def check_groups(style: str, images: int) -> None:
    """Refuse a number of images that makes no ten equal groups."""
    if not images or images % GROUPS:
        raise UserError(f"{style}: {images} images make no {GROUPS} equal groups; give a multiple of {GROUPS}")
