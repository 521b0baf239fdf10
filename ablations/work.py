"""How much a stage has to do: the units in which its time grows, and what must agree for two times to be compared."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsd.selection.strategies import REGISTRY as STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

UNKNOWN_PAIRS = 100_000
"""Pairs of a data set that is not on this machine."""
UNKNOWN_PROMPTS = 500
"""Prompts of a split that cannot be counted here."""
BYTES_PER_PIXEL = 0.6
"""Of a compressed image: turns the size of a data set into a number of pairs until the data stage has counted them."""


@dataclass(frozen=True)
class Work:
    """What one stage does.

    Attributes:
        amount: grows as its time does.
        unit: what ``amount`` counts.
        volume: grows as the size of its artefact does.
        alike: what must be equal for the time of another stage of the kind to tell something.
    """

    amount: float
    unit: str
    volume: float
    alike: tuple[Any, ...] = ()


def work_of(stage: str, values: Mapping[str, Any], counted: Mapping[str, int]) -> Work:
    """The work of a stage.

    Args:
        stage: its kind; one that is not of this project counts as one.
        values: its flat configuration.
        counted: path of a data set -> pairs, where a finished data stage has counted them.
    """
    measure = _MEASURES.get(stage)
    return measure(values, _pairs(values, counted)) if measure else Work(1, "stages", 1)


def images(values: Mapping[str, Any]) -> int:
    """Images that a cell generates for its evaluation."""
    prompts = _prompts(
        values["evaluation.prompts"], tuple(values["evaluation.splits"]), values["evaluation.prompts_per_split"]
    )
    return prompts * int(values["generation.images_per_prompt"])


def selected(values: Mapping[str, Any], pairs: int) -> float:
    """Pairs that are kept; all of them where only the scores decide how many."""
    by_fraction = "fraction" in STRATEGIES.get(values["selection.strategy"]).fields
    return pairs * values["selection.fraction"] / 100 if by_fraction else pairs


def _data(_values: Mapping[str, Any], pairs: int) -> Work:
    return Work(pairs, "pairs", pairs)


def _score(values: Mapping[str, Any], pairs: int) -> Work:
    return Work(pairs, "pairs", pairs, (values["reward.model"],))


def _encode(values: Mapping[str, Any], pairs: int) -> Work:
    encoded = pairs if values["encode.scope"] == "dataset" else selected(values, pairs)
    return Work(encoded, "pairs", encoded, (values["model.path"], values["model.resolution"]))


def _train(values: Mapping[str, Any], _pairs: int) -> Work:
    alike = (values["model.path"], values["model.resolution"], values["training.precision"])
    steps = values["training.steps"] * values["training.pairs_per_step"]
    return Work(steps, "steps x pairs", values["lora.rank"], alike)


def _generate(values: Mapping[str, Any], _pairs: int) -> Work:
    made = images(values)
    passes = 1 if values["generation.guidance_scale"] == 1 else 2
    alike = (values["model.path"], values["model.resolution"])
    return Work(made * values["generation.steps"] * passes, "images x denoiser passes", made, alike)


def _evaluate(values: Mapping[str, Any], _pairs: int) -> Work:
    scorers = tuple(values["evaluation.scorers"])
    return Work(images(values) * len(scorers), "images x scorers", images(values) * len(scorers), scorers)


_MEASURES: dict[str, Callable[[Mapping[str, Any], int], Work]] = {
    "data": _data,
    "score": _score,
    "select": _data,
    "encode": _encode,
    "train": _train,
    "generate": _generate,
    "evaluate": _evaluate,
}


def _pairs(values: Mapping[str, Any], counted: Mapping[str, int]) -> int:
    path = values["data.path"]
    return counted[path] if path in counted else _pairs_by_size(path, values["model.resolution"])


@cache
def _pairs_by_size(path: str, resolution: int) -> int:
    try:
        size = _bytes_below(Path(path))
    except OSError:
        return UNKNOWN_PAIRS
    return max(1, round(size / (2 * BYTES_PER_PIXEL * resolution**2)))


def _bytes_below(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    return path.stat().st_size


@cache
def _prompts(path: str, splits: tuple[str, ...], per_split: int | None) -> int:
    most = per_split if per_split is not None else float("inf")
    try:
        with Path(path).open(newline="", encoding="utf-8") as stream:
            found = [row.get("split") for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error):  # not here, or a parquet file
        return int(min(UNKNOWN_PROMPTS, most)) * len(splits)
    return int(sum(min(found.count(split), most) for split in splits))


def count_of(summary: Path) -> int | None:
    """The number of pairs in the ``summary.json`` of a finished data stage."""
    try:
        return int(json.loads(summary.read_bytes())["pairs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
