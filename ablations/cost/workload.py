"""How much there is to do: counts of pairs and images, from which each stage's spec computes its work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.cost.pair_counts import UNKNOWN_PAIRS, count_pairs, pairs_by_size, true_pairs, true_selected
from qsd.config.check import schema_fields
from qsd.config.near_paths import suggest_path
from qsd.data.prompts import read_splits
from qsd.errors import UserError
from qsd.selection.strategies import REGISTRY as STRATEGIES
from qsd.stages.data.spec import columns_of
from qsd.stages.spec import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ablations.cost.pair_counts import Limited
    from ablations.store.artefacts import Store
    from qsd.stages.stage_spec import Work

UNKNOWN_PROMPTS = 500
"""Prompts of a split that cannot be counted here."""


class Counts:
    """How many pairs and prompts there are, as well as it can be known without reading images.

    Args:
        counted: (path of a data set, first rows used or None, column of ``data.only`` or None) -> pairs, where a
            finished data stage has counted them.

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
        path, most, only = values["data.path"], values["data.max_rows"], values.get("data.only")
        known = self._counted.get((path, most, only))
        if known is None:
            of_all_rows = self._counted.get((path, None, only))
            if of_all_rows is None:
                of_all_rows = self._counted[path, None, only] = self._pairs_of_all_rows(values)
            known = self._counted[path, most, only] = of_all_rows if most is None else min(most, of_all_rows)
        return known

    def _pairs_of_all_rows(self, values: Mapping[str, Any]) -> int:
        """Pairs of all rows of a data set whose stage is not done."""
        path, most = values["data.path"], values["data.max_rows"]
        try:
            return max(1, count_pairs(values["data.reader"], path, columns_of(values), values.get("data.only")))
        except (UserError, OSError, ValueError) as error:
            reason = str(error)
        try:
            count = pairs_by_size(Path(path), values["model.resolution"])
            how = f"data.path: {reason}; planned with {{:,}} pairs, a guess from its size"
        except OSError:
            count = UNKNOWN_PAIRS
            near = suggest_path(Path(path)).replace("{", "{{").replace("}", "}}")
            how = (
                f"data.path: there is nothing at {path} yet{near}; planned with an assumed {{:,}} pairs, "
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
    """The work of a stage with a flat configuration."""
    return STAGES[stage].cost.work(values, counts)


def of_this_version(values: Mapping[str, Any]) -> bool:
    """False for a flat configuration with a field of the loss that is not known here: it may have cost passes."""
    return schema_fields().keys() >= {name for name in values if name.startswith("loss.")}


def _prompts(path: Path, splits: Sequence[str], per_split: int | None) -> int:
    """The prompts of an evaluation, at least one; a usual number where they cannot be read."""
    try:
        return max(1, len(read_splits(path, splits, per_split)))
    except UserError:
        return len(splits) * (UNKNOWN_PROMPTS if per_split is None else min(UNKNOWN_PROMPTS, per_split))
