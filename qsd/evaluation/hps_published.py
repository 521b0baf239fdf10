"""Published rows of the HPS v2 benchmark, and a result beside them. Source: the README of tgxs002/HPSv2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.data.style_lists import STYLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qsd.evaluation.hps_benchmark import BenchmarkResult

PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
    "v2.0": {
        "Dreamlike Photoreal 2.0": (28.24, 27.60, 27.59, 27.99, 27.86),
        "SDXL Refiner 0.9": (28.45, 27.66, 27.67, 27.46, 27.80),
        "SDXL Base 0.9": (28.42, 27.63, 27.60, 27.29, 27.73),
        "Stable Diffusion 2.0": (27.48, 26.89, 26.86, 27.46, 27.17),
        "Stable Diffusion 1.4": (27.26, 26.61, 26.66, 27.27, 26.95),
        "DALL-E 2": (27.34, 26.54, 26.68, 27.24, 26.95),
        "GLIDE": (23.34, 23.08, 23.27, 24.50, 23.55),
    },
    "v2.1": {
        "SDXL Refiner 0.9": (33.26, 32.07, 31.63, 28.38, 31.34),
        "SDXL Base 0.9": (32.84, 31.36, 30.86, 27.48, 30.63),
        "Deliberate": (31.46, 30.48, 30.17, 28.83, 30.23),
        "Stable Diffusion 2.0": (27.09, 26.02, 25.68, 26.73, 26.38),
        "Stable Diffusion 1.4": (26.03, 24.87, 24.80, 25.70, 25.35),
        "GLIDE": (13.90, 13.50, 13.94, 16.72, 14.51),
    },
}
"""Version -> model -> the styles in the order of ``STYLES``, then the average; in hundredths of cosine."""

NOTE = (
    "The published v2.1 rows do not come out of the published code: users who ran it on the published images of "
    "SDXL Base 0.9 report an average of 28.71 where the table has 30.63. Compare with a baseline scored here."
)


def lines(name: str, result: BenchmarkResult, version: str) -> Iterator[str]:
    """The result as a row, and the published rows of ``version`` below it when the styles are the published ones."""
    yield "  ".join([f"{'':<24}", *(f"{style:>15}" for style in result.styles), f"{'overall':>8}"])
    cells = [f"{f'{style.mean:.2f} (std {style.std:.2f})':>15}" for style in result.styles.values()]
    yield "  ".join([f"{name:<24}", *cells, f"{result.overall:>8.2f}"])
    if tuple(result.styles) != STYLES or version not in PUBLISHED:
        return
    for model, (*styles, average) in PUBLISHED[version].items():
        yield "  ".join([f"{model:<24}", *(f"{value:>15.2f}" for value in styles), f"{average:>8.2f}"])
    if version == "v2.1":
        yield NOTE
