"""How much a stage has to do: the units in which its time grows, and what must agree for two times to be compared."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.cost.pair_counts import UNKNOWN_PAIRS, count_pairs, pairs_by_size, true_pairs, true_selected
from qsd.config.check import schema_fields
from qsd.errors import UserError
from qsd.losses import REGISTRY as LOSSES
from qsd.selection.strategies import REGISTRY as STRATEGIES
from qsd.training.loss_cost import Passes, passes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ablations.cost.pair_counts import Limited
    from ablations.store.artefacts import Store

UNKNOWN_PROMPTS = 500
"""Prompts of a split that cannot be counted here."""


@dataclass(frozen=True)
class Work:
    """What one stage does.

    Attributes:
        amount: grows as its time does.
        unit: what ``amount`` counts.
        output_size: grows as the size of its artefact does.
        comparable_key: what must be equal for the time of another stage of the kind to tell something.
    """

    amount: float
    unit: str
    output_size: float
    comparable_key: tuple[Any, ...] = ()


class Counts:
    """How many pairs and prompts there are, as well as it can be known without reading images.

    Args:
        counted: (path of a data set, first rows used or None) -> pairs, where a finished data stage has counted them.

    Attributes:
        remarks: data set -> what was assumed of it, for a person; nothing of those that were counted.
    """

    def __init__(self, counted: Mapping[Limited, int]) -> None:
        self._counted = dict(counted)
        self._prompts: dict[tuple[Any, ...], int] = {}
        self.remarks: dict[str, str] = {}
        self._silent: Counts | None = None

    def without_remarks(self) -> Counts:
        """The same counts, whose remarks go nowhere."""
        if self._silent is None:
            self._silent = Counts(self._counted)
            self._silent._prompts = self._prompts
        return self._silent

    def pairs(self, values: Mapping[str, Any]) -> int:
        """Pairs of the data set: as its stage counted them, else its rows, else a guess from its size."""
        path, most = values["data.path"], values["data.max_rows"]
        known = self._counted.get((path, most))
        if known is None:
            whole = self._counted.get((path, None))
            if whole is None:
                whole = self._counted[path, None] = self._whole(values)
            known = self._counted[path, most] = whole if most is None else min(most, whole)
        return known

    def _whole(self, values: Mapping[str, Any]) -> int:
        """Pairs of all rows of a data set whose stage is not done."""
        path, most = values["data.path"], values["data.max_rows"]
        try:
            return max(1, count_pairs(values["data.reader"], path))
        except (UserError, OSError, ValueError) as error:
            reason = str(error)
        try:
            count = pairs_by_size(Path(path), values["model.resolution"])
            how = f"data.path: {reason}; planned with {{:,}} pairs, a guess from its size"
        except OSError:
            count = UNKNOWN_PAIRS
            how = (
                f"data.path: there is nothing at {path} yet; planned with an assumed {{:,}} pairs, "
                "and no stage that needs them counts as done"
            )
        self.remarks[path] = how.format(count if most is None else min(most, count))
        return count

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


class RecordedCounts(Counts):
    """What a finished stage really worked on, as the summaries of its inputs say.

    Where they are gone, pairs are counted as for a plan, but what is assumed of the data of an old record is no remark
    of this plan.

    Args:
        store: where the stage was done.
        upstream: its inputs and itself, stage -> key.
        others: counts that are not in those summaries.
    """

    def __init__(self, store: Store, upstream: Mapping[str, str], others: Counts) -> None:
        super().__init__({})
        self._store, self._upstream, self._others = store, upstream, others.without_remarks()

    def pairs(self, values: Mapping[str, Any]) -> int:
        """Pairs of its data stage."""
        return true_pairs(self._store, self._upstream) or self._others.pairs(values)

    def selected(self, values: Mapping[str, Any]) -> float:
        """Pairs that its selection kept."""
        return true_selected(self._store, self._upstream) or super().selected(values)

    def images(self, values: Mapping[str, Any]) -> int:
        """Images that its cell generates."""
        return self._others.images(values)


def work_of(stage: str, values: Mapping[str, Any], counts: Counts) -> Work:
    """The work of a stage with a flat configuration; a kind of stage that is not of this project counts as one."""
    measure = _MEASURES.get(stage)
    return measure(values, counts) if measure else Work(1, "stages", 1)


def _data(values: Mapping[str, Any], counts: Counts) -> Work:
    pairs = counts.pairs(values)
    return Work(pairs, "pairs", pairs)


def _score(values: Mapping[str, Any], counts: Counts) -> Work:
    pairs = counts.pairs(values)
    comparable_key = (values["reward.model"], *(values["reward.members"] or ()), values["reward.precision"])
    return Work(pairs, "pairs", pairs, comparable_key)


def _encode(values: Mapping[str, Any], counts: Counts) -> Work:
    pairs = counts.pairs(values) if values["encode.scope"] == "dataset" else counts.selected(values)
    comparable_key = (values["model.path"], values["model.resolution"], values["model.vae_precision"])
    return Work(pairs, "pairs", pairs, comparable_key)


def _train(values: Mapping[str, Any], counts: Counts) -> Work:
    comparable_key = (values["model.path"], values["model.resolution"], values["training.precision"])
    if values["training.budget"] == "steps":
        seen = values["training.steps"] * values["training.pairs_per_step"]
    else:
        seen = max(values["training.pairs_per_step"], values["training.epochs"] * counts.selected(values))
    passes = seen * training_passes(values).forward_passes
    return Work(passes, "images x denoiser passes", values["lora.rank"], comparable_key)


def training_passes(values: Mapping[str, Any]) -> Passes:
    """What a pair costs under the loss of a flat configuration."""
    loss = values["loss.name"]
    read = (values[name] for name in _read_by(loss))
    settings = tuple(tuple(value) if isinstance(value, list) else value for value in read)
    return _passes(loss, settings, values["training.pairs_per_step"] <= values["training.micro_batch"])


def of_this_version(values: Mapping[str, Any]) -> bool:
    """False for a flat configuration with a field of the loss that is not known here: it may have cost passes."""
    return schema_fields().keys() >= {name for name in values if name.startswith("loss.")}


@cache
def _read_by(loss: str) -> tuple[str, ...]:
    return tuple(f"loss.{field}" for field in LOSSES.get(loss).fields)


@cache
def _passes(loss: str, settings: tuple[Any, ...], whole_steps: bool) -> Passes:
    """Thousands of cells have a handful of losses between them."""
    member = LOSSES.get(loss)
    return passes_of(member, member.settings(**dict(zip(member.fields, settings, strict=True))), whole_steps)


def _generate(values: Mapping[str, Any], counts: Counts) -> Work:
    made = counts.images(values)
    passes = 1 if values["generation.guidance_scale"] == 1 else 2
    comparable_key = (values["model.path"], values["model.resolution"], values["generation.precision"])
    return Work(made * values["generation.steps"] * passes, "images x denoiser passes", made, comparable_key)


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


def _prompts(path: Path, splits: Iterable[str], per_split: int | None) -> int:
    """The prompts of a CSV, at least one; any other file is not read for this."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            found = [row.get("split") for row in csv.DictReader(stream)]
        counts = [found.count(split) for split in splits]
    except (OSError, UnicodeDecodeError, csv.Error):
        counts = [UNKNOWN_PROMPTS for _ in splits]
    return max(1, sum(count if per_split is None else min(count, per_split) for count in counts))
