"""Stage score: ψ of both images of every pair under the reward model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.config.schema import RewardConfig
from qsd.rewards.scorers import ENSEMBLE
from qsd.stages.stage_spec import BatchField, Compute, Precompute, Rehearsal, StageCost, StageSpec, Work

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Counts, ModelSizes, Values


def _reads(values: Values) -> tuple[str, ...]:
    """The reward model, and how its members are combined where it has some."""
    of_ensemble = ("reward.members", "reward.combine") if values["reward.model"] == ENSEMBLE else ()
    return ("reward.model", *of_ensemble, "reward.precision")


def _extra(values: Values) -> dict[str, Any]:
    """Revisions of the reward model's code and weights, or of all members of an ensemble."""
    from qsd.rewards.ensemble import ensemble_revision
    from qsd.rewards.revision import revision

    if values["reward.model"] != ENSEMBLE:
        return {"reward.revision": revision(values["reward.model"], values["reward.weights"])}
    reward = RewardConfig(**{name: values[f"reward.{name}"] for name in RewardConfig.__dataclass_fields__})
    return {"reward.revision": ensemble_revision(reward)}


def _precompute_processes(values: Values) -> int:
    return int(values["reward.shards"])


def _work(values: Values, counts: Counts) -> Work:
    pairs = counts.pairs(values)
    comparable_key = (values["reward.model"], *(values["reward.members"] or ()), values["reward.precision"])
    return Work(pairs, "pairs", pairs, comparable_key)


def _compute(values: Values, pairs: float, _processes: int, sizes: ModelSizes) -> Compute:
    from qsd.rewards.ensemble import members_of

    names = members_of(values["reward.model"], values["reward.members"])
    return Compute(
        flop=2 * pairs * sum(sizes.scorer_flop(values, name) for name in names),
        precision=values["reward.precision"],
        calls=2 * pairs / values["reward.batch_size"],
        decoded_images=2 * pairs,
    )


def _enough(values: Values) -> dict[str, int]:
    """A full batch."""
    return {"data.max_rows": values["reward.batch_size"]}


STAGE = StageSpec(
    help="Score the images of all pairs with the reward model.",
    entry="qsd.stages.score.run:run",
    reads=_reads,
    inputs=("data",),
    extra=_extra,
    execution=lambda _: ("reward.batch_size", "reward.workers", "reward.shards"),
    precompute=Precompute("qsd.stages.score.run:precompute", _precompute_processes),
    cost=StageCost(_work, _compute),
    rehearsal=Rehearsal(shape=("reward.model", "reward.members", "reward.batch_size"), enough=_enough),
    examines_model=True,
    batch=BatchField("reward.batch_size"),
    in_tables=True,
)
