"""How much a stage has to do: the units in which its time grows, and what must agree for two times to be compared."""

from __future__ import annotations

import csv
import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsd.config.schema import LossConfig
from qsd.losses import REGISTRY as LOSSES
from qsd.selection.strategies import REGISTRY as STRATEGIES
from qsd.training.passes import Passes, passes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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


class Counts:
    """How many pairs and prompts there are, as well as it can be told without reading data.

    Args:
        counted: path of a data set -> pairs, where a finished data stage has counted them.
    """

    def __init__(self, counted: Mapping[str, int]) -> None:
        self._counted = dict(counted)
        self._prompts: dict[tuple[Any, ...], int] = {}

    def pairs(self, values: Mapping[str, Any]) -> int:
        """Pairs of the data set; guessed from its size until they are counted."""
        path = values["data.path"]
        if path not in self._counted:
            self._counted[path] = _pairs_by_size(Path(path), values["model.resolution"])
        most = values["data.max_rows"]
        return self._counted[path] if most is None else min(most, self._counted[path])

    def selected(self, values: Mapping[str, Any]) -> float:
        """Pairs that are kept; all of them where only the scores decide how many."""
        pairs = self.pairs(values)
        if "fraction" not in STRATEGIES.get(values["selection.strategy"]).fields:
            return pairs
        count = values["selection.count"]
        return float(pairs * values["selection.fraction"] / 100 if count is None else min(count, pairs))

    def images(self, values: Mapping[str, Any]) -> int:
        """Images that a cell generates for its evaluation."""
        splits, most = values["evaluation.splits"], values["evaluation.prompts_per_split"]
        asked = (values["evaluation.prompts"], tuple(splits), most)
        if asked not in self._prompts:
            self._prompts[asked] = _prompts(Path(values["evaluation.prompts"]), splits, most)
        return self._prompts[asked] * int(values["generation.images_per_prompt"])


def work_of(stage: str, values: Mapping[str, Any], counts: Counts) -> Work:
    """The work of a stage with a flat configuration; a kind of stage that is not of this project counts as one."""
    measure = _MEASURES.get(stage)
    return measure(values, counts) if measure else Work(1, "stages", 1)


def _data(values: Mapping[str, Any], counts: Counts) -> Work:
    pairs = counts.pairs(values)
    return Work(pairs, "pairs", pairs)


def _score(values: Mapping[str, Any], counts: Counts) -> Work:
    pairs = counts.pairs(values)
    alike = (values["reward.model"], *(values["reward.members"] or ()), values["reward.precision"])
    return Work(pairs, "pairs", pairs, alike)


def _encode(values: Mapping[str, Any], counts: Counts) -> Work:
    pairs = counts.pairs(values) if values["encode.scope"] == "dataset" else counts.selected(values)
    alike = (values["model.path"], values["model.resolution"], values["model.vae_precision"])
    return Work(pairs, "pairs", pairs, alike)


def _train(values: Mapping[str, Any], counts: Counts) -> Work:
    alike = (values["model.path"], values["model.resolution"], values["training.precision"])
    if values["training.budget"] == "steps":
        seen = values["training.steps"] * values["training.pairs_per_step"]
    else:
        seen = max(values["training.pairs_per_step"], values["training.epochs"] * counts.selected(values))
    passes = seen * training_passes(values).forward_passes
    return Work(passes, "images x denoiser passes", values["lora.rank"], alike)


def training_passes(values: Mapping[str, Any]) -> Passes:
    """What a pair costs under the loss of a flat configuration."""
    loss = values["loss.name"]
    read = (values[name] for name in _read_by(loss))
    settings = tuple(tuple(value) if isinstance(value, list) else value for value in read)
    return _passes(loss, settings, values["training.pairs_per_step"] <= values["training.micro_batch"])


_LOSS_FIELDS = frozenset(f"loss.{field.name}" for field in dataclasses.fields(LossConfig))


def of_this_version(values: Mapping[str, Any]) -> bool:
    """False for a flat configuration with a field of the loss that is not known here: it may have cost passes."""
    return _LOSS_FIELDS.issuperset(name for name in values if name.startswith("loss."))


@cache
def _read_by(loss: str) -> tuple[str, ...]:
    return tuple(f"loss.{field}" for field in LOSSES.get(loss).fields)


@cache
def _passes(loss: str, settings: tuple[Any, ...], whole_steps: bool) -> Passes:
    """Thousands of cells have a handful of losses between them."""
    member = LOSSES.get(loss)
    return passes_of(member, LossConfig(name=loss, **dict(zip(member.fields, settings, strict=True))), whole_steps)


def _generate(values: Mapping[str, Any], counts: Counts) -> Work:
    made = counts.images(values)
    passes = 1 if values["generation.guidance_scale"] == 1 else 2
    alike = (values["model.path"], values["model.resolution"], values["generation.precision"])
    return Work(made * values["generation.steps"] * passes, "images x denoiser passes", made, alike)


def _evaluate(values: Mapping[str, Any], counts: Counts) -> Work:
    scorers = tuple(values["evaluation.scorers"])
    scored = counts.images(values) * len(scorers)
    return Work(scored, "images x scorers", scored, scorers)


_MEASURES: dict[str, Callable[[Mapping[str, Any], Counts], Work]] = {
    "data": _data,
    "score": _score,
    "select": _data,
    "encode": _encode,
    "train": _train,
    "generate": _generate,
    "evaluate": _evaluate,
}


def _pairs_by_size(path: Path, resolution: int) -> int:
    try:
        files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files)
    except OSError:
        return UNKNOWN_PAIRS
    return max(1, round(size / (2 * BYTES_PER_PIXEL * resolution**2)))


def _prompts(path: Path, splits: Iterable[str], per_split: int | None) -> int:
    """The prompts of a CSV, at least one; any other file is not read for this."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            found = [row.get("split") for row in csv.DictReader(stream)]
        counts = [found.count(split) for split in splits]
    except (OSError, UnicodeDecodeError, csv.Error):
        counts = [UNKNOWN_PROMPTS for _ in splits]
    return max(1, sum(count if per_split is None else min(count, per_split) for count in counts))


def count_of(summary: Path) -> int | None:
    """The number of pairs in the ``summary.json`` of a finished data stage."""
    try:
        return int(json.loads(summary.read_bytes())["pairs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
