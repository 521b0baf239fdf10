"""What each stage reads of a configuration: its inputs, its fields, and what is not in the configuration itself.

``qsd.stages.spec`` makes keys from it. Members are asked only when they are chosen, so that a plan loads no others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsd.config.check import schema_fields
from qsd.config.once_per_process import OncePerProcess
from qsd.config.schema import EQUAL_STEP_RANK
from qsd.errors import UserError

if TYPE_CHECKING:
    from qsd.registry import Registry

Values = Mapping[str, Any]
"""A flat configuration (``qsd.config.load.Flat``)."""


def section(name: str) -> tuple[str, ...]:
    """Dotted names of all fields of a section of the configuration."""
    return tuple(field for field in schema_fields() if field.startswith(f"{name}."))


_LABELS = ("data.flip_fraction", "data.relabel")
"""What stage select makes of the labels: cells that differ in it share images and scores."""


def data_reads(_values: Values) -> tuple[str, ...]:
    """All but what happens to the labels later, and who made them, which the adapter's model card says."""
    return tuple(name for name in section("data") if name not in (*_LABELS, "data.labels"))


def none(_values: Values) -> dict[str, Any]:
    """For a stage whose fields and inputs are its whole meaning."""
    return {}


def _code(field: str, registry: Registry[Any], name: str) -> dict[str, Any]:
    """What a chosen member's code adds to a meaning: the digest of its own source, and its version above one.

    The version is for what the digest does not see: code that members share and libraries.
    """
    version = registry.get(name).version
    return {f"{field}.source": registry.source(name), **({f"{field}.version": version} if version != 1 else {})}


def data_extra(values: Values) -> dict[str, Any]:
    """The reader's code, and a digest of image files that its path does not cover."""
    from qsd.data.readers import REGISTRY

    code = _code("data.reader", REGISTRY, values["data.reader"])
    images = _images_digest(values["data.reader"], values["data.path"])
    return {**code, "data.images": images} if images else code


@OncePerProcess
def _images_digest(reader: str, path: str) -> str | None:
    """What the path's own digest does not cover: image files beside a list. Looked up once per process."""
    from qsd.data.readers import REGISTRY

    digest = REGISTRY.get(reader).digest
    return digest(Path(path)) if digest else None


def score_extra(values: Values) -> dict[str, Any]:
    """Revisions of the reward model's code and weights, or of all members of an ensemble."""
    from qsd.config.schema import RewardConfig
    from qsd.rewards.ensemble import ensemble_revision
    from qsd.rewards.revision import revision
    from qsd.rewards.scorers import ENSEMBLE

    if values["reward.model"] != ENSEMBLE:
        return {"reward.revision": revision(values["reward.model"], values["reward.weights"])}
    reward = RewardConfig(**{name: values[f"reward.{name}"] for name in RewardConfig.__dataclass_fields__})
    return {"reward.revision": ensemble_revision(reward)}


def score_reads(values: Values) -> tuple[str, ...]:
    """The reward model, and how its members are combined where it has some."""
    from qsd.rewards.scorers import ENSEMBLE

    of_ensemble = ("reward.members", "reward.combine") if values["reward.model"] == ENSEMBLE else ()
    return ("reward.model", *of_ensemble, "reward.precision")


def _uses_quality(values: Values) -> bool:
    from qsd.selection.strategies import REGISTRY

    return REGISTRY.get(values["selection.strategy"]).uses_quality


def uses_scores(values: Values) -> bool:
    """Whether scores rank the pairs."""
    from qsd.quality.metrics import REGISTRY

    return _uses_quality(values) and REGISTRY.get(values["quality.metric"]).uses_scores


def select_inputs(values: Values) -> tuple[str, ...]:
    """Scores only where they rank pairs or measure or make labels: other cells need not wait for a reward model."""
    changes_labels = values["data.flip_fraction"] > 0 or values["data.relabel"] != "none"
    return ("data", "score") if uses_scores(values) or changes_labels else ("data",)


def select_reads(values: Values) -> tuple[str, ...]:
    """What the strategy and the metric read, and the seed if either draws random numbers."""
    from qsd.quality.metrics import REGISTRY as METRICS
    from qsd.selection.strategies import REGISTRY as STRATEGIES

    strategy = STRATEGIES.get(values["selection.strategy"])
    unread = "count" if values["selection.count"] is None else "fraction"
    names = ["selection.strategy", *(f"selection.{field}" for field in strategy.fields if field != unread)]
    stochastic = strategy.stochastic
    if strategy.uses_quality:
        names.append("quality.metric")
        stochastic |= METRICS.get(values["quality.metric"]).stochastic
    if uses_scores(values):
        names.append("quality.normalization")
    names += _LABELS
    return (*names, "seed") if stochastic else tuple(names)


def select_extra(values: Values) -> dict[str, Any]:
    """The code of the members that take part."""
    from qsd.quality.metrics import REGISTRY as METRICS
    from qsd.quality.normalizations import REGISTRY as NORMALIZATIONS
    from qsd.selection.strategies import REGISTRY as STRATEGIES

    code = _code("selection.strategy", STRATEGIES, values["selection.strategy"])
    if _uses_quality(values):
        code |= _code("quality.metric", METRICS, values["quality.metric"])
    if uses_scores(values):
        code |= _code("quality.normalization", NORMALIZATIONS, values["quality.normalization"])
    return code


def encode_inputs(values: Values) -> tuple[str, ...]:
    """The selection too, where only what it kept is encoded."""
    return ("data", "select") if values["encode.scope"] == "selection" else ("data",)


def train_reads(values: Values) -> tuple[str, ...]:
    """The loss with the fields that it reads, the adapter, and the training without the budget that is not in force."""
    from qsd.losses import REGISTRY

    loss = REGISTRY.get(values["loss.name"])
    of_loss = ("loss.name", *(f"loss.{field}" for field in loss.fields))
    unread = "training.epochs" if values["training.budget"] == "steps" else "training.steps"
    training = (field for field in section("training") if field != unread)
    adapter = [field for field in section("lora") if field != "lora.scaling" or values["lora.rank"] != EQUAL_STEP_RANK]
    return ("data.labels", "model.path", "model.resolution", *of_loss, *adapter, *training, "seed")


def train_extra(values: Values) -> dict[str, Any]:
    """The code of the loss."""
    from qsd.losses import REGISTRY

    return _code("loss", REGISTRY, values["loss.name"])


def train_processes(values: Values, gpus: int | None) -> int:
    """One per GPU unless the experiment says how many.

    Raises:
        UserError: more processes than GPUs, or than pairs of a step.
    """
    asked, device, pairs = values["training.processes"], values["device"], values["training.pairs_per_step"]
    spread = device in ("auto", "cuda")
    count = int(asked or (gpus if spread and gpus else 1))
    if spread and gpus and count > gpus:
        raise UserError(
            f"training.processes is {count}, but the cluster profile gives a training {gpus} GPUs; "
            "make them equal, or leave training.processes out"
        )
    if count > pairs:
        raise UserError(
            f"training.pairs_per_step is {pairs}, but {count} processes would share it; use at most {pairs} "
            "(training.processes, or gpus of train in the cluster profile)"
        )
    return count


def generate_inputs(values: Values) -> tuple[str, ...]:
    """A training, except for the base model."""
    return ("train",) if values["adapter"] == "trained" else ()


def generate_extra(values: Values) -> dict[str, Any]:
    """The first version encoded captions in bf16 where the UNet computes in it."""
    return {"generation.bf16.version": 2} if values["generation.precision"] == "bf16" else {}


PROMPTS = ("evaluation.prompts", "evaluation.splits", "evaluation.prompts_per_split")


def evaluate_extra(values: Values) -> dict[str, Any]:
    """Revisions of the code and weights of the scorers."""
    from qsd.rewards.revision import revision

    return {"revisions": {name: revision(name, values["reward.weights"]) for name in values["evaluation.scorers"]}}


def fixed(*names: str) -> Callable[[Values], tuple[str, ...]]:
    """The same names whatever the values."""
    return lambda _values: names
