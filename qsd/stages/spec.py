"""What each stage means: the fields it reads, its inputs, and the key made from both.

A key covers the stage's name and version, the fields that differ from their defaults among those that this stage *and
the members chosen in it* read, digests of the content behind paths, and the keys of its inputs. So a field that a loss
ignores changes no key, nor does a new field with a default, nor anything that only changes how a stage runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsd.config.check import schema_fields
from qsd.config.digest import hash_of, location_digest
from qsd.config.fields import Kind
from qsd.config.remembered import Remembered
from qsd.errors import UserError

Values = Mapping[str, Any]
"""A flat configuration (``qsd.config.load.Flat``)."""


@dataclass(frozen=True)
class Ahead:
    """Work that stages of one kind with the same inputs can do together before they run, in any number of processes.

    Attributes:
        entry: ``module:function`` that does it with an ``AheadContext``. The stages find what it left in their
            ``StageContext.shared``, and do what is missing themselves.
        processes: values -> how many processes are asked for.
    """

    entry: str
    processes: Callable[[Values], int]


@dataclass(frozen=True)
class StageSpec:
    """One stage.

    Attributes:
        name: as in design and commands.
        entry: ``module:function`` that runs it with a ``StageContext``.
        inputs: values -> names of the upstream stages.
        reads: values -> dotted names of the fields it reads.
        extra: values -> further parts of its meaning, such as revisions of weights.
        version: raised whenever the same meaning gives another result.
        ahead: work that stages of this kind can do together beforehand; None for none.
        processes: (values, GPUs) -> how many processes run it together; None: always one. The GPUs are those that its
            place gives each stage, or None where it gives as many as there are processes. May raise UserError.
    """

    name: str
    entry: str
    inputs: Callable[[Values], tuple[str, ...]]
    reads: Callable[[Values], tuple[str, ...]]
    extra: Callable[[Values], dict[str, Any]]
    version: int = 1
    ahead: Ahead | None = None
    processes: Callable[[Values, int | None], int] | None = None


def _section(name: str) -> tuple[str, ...]:
    return tuple(field for field in schema_fields() if field.startswith(f"{name}."))


_LABELS = ("data.flip_fraction", "data.relabel")
"""What stage select makes of the labels: cells that differ in it share images and scores."""


def _data_reads(_values: Values) -> tuple[str, ...]:
    """All but what happens to the labels later, and who made them, which the adapter's model card says."""
    return tuple(name for name in _section("data") if name not in (*_LABELS, "data.labels"))


def _none(_values: Values) -> dict[str, Any]:
    return {}


def _versions(*members: tuple[str, int]) -> dict[str, Any]:
    """Versions above one: the first version leaves no trace in keys."""
    return {f"{name}.version": version for name, version in members if version != 1}


def _data_extra(values: Values) -> dict[str, Any]:
    from qsd.data.readers import REGISTRY

    version = _versions(("data.reader", REGISTRY.get(values["data.reader"]).version))
    images = _images_digest(values["data.reader"], values["data.path"])
    return {**version, "data.images": images} if images else version


@Remembered
def _images_digest(reader: str, path: str) -> str | None:
    """What the path's own digest does not cover: image files beside a list. Looked up once per process."""
    from qsd.data.readers import REGISTRY

    digest = REGISTRY.get(reader).digest
    return digest(Path(path)) if digest else None


def _score_extra(values: Values) -> dict[str, Any]:
    from qsd.config.schema import RewardConfig
    from qsd.rewards.ensemble import ensemble_revision
    from qsd.rewards.revision import revision
    from qsd.rewards.scorers import ENSEMBLE

    if values["reward.model"] != ENSEMBLE:
        return {"reward.revision": revision(values["reward.model"], values["reward.weights"])}
    reward = RewardConfig(**{name: values[f"reward.{name}"] for name in RewardConfig.__dataclass_fields__})
    return {"reward.revision": ensemble_revision(reward)}


def _score_reads(values: Values) -> tuple[str, ...]:
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


def scorer_chooses(values: Values) -> bool:
    """Whether scores shape the training data; planted flips read them as well, but only to measure."""
    return uses_scores(values) or values["data.relabel"] == "scores"


def _select_inputs(values: Values) -> tuple[str, ...]:
    changes_labels = values["data.flip_fraction"] > 0 or values["data.relabel"] != "none"
    return ("data", "score") if uses_scores(values) or changes_labels else ("data",)


def _select_reads(values: Values) -> tuple[str, ...]:
    from qsd.quality.metrics import REGISTRY as METRICS
    from qsd.selection.strategies import REGISTRY as STRATEGIES

    strategy = STRATEGIES.get(values["selection.strategy"])
    amount = "fraction" if values["selection.count"] is None else "count"
    fields = (amount if field == "fraction" else field for field in strategy.fields)
    names = ["selection.strategy", *(f"selection.{field}" for field in fields)]
    stochastic = strategy.stochastic
    if strategy.uses_quality:
        names.append("quality.metric")
        stochastic |= METRICS.get(values["quality.metric"]).stochastic
    if uses_scores(values):
        names.append("quality.normalization")
    names += _LABELS
    return (*names, "seed") if stochastic else tuple(names)


def _select_extra(values: Values) -> dict[str, Any]:
    from qsd.quality.metrics import REGISTRY as METRICS
    from qsd.quality.normalizations import REGISTRY as NORMALIZATIONS
    from qsd.selection.strategies import REGISTRY as STRATEGIES

    members = [("selection.strategy", STRATEGIES.get(values["selection.strategy"]).version)]
    if _uses_quality(values):
        members.append(("quality.metric", METRICS.get(values["quality.metric"]).version))
    if uses_scores(values):
        members.append(("quality.normalization", NORMALIZATIONS.get(values["quality.normalization"]).version))
    return _versions(*members)


def _encode_inputs(values: Values) -> tuple[str, ...]:
    return ("data", "select") if values["encode.scope"] == "selection" else ("data",)


def _train_reads(values: Values) -> tuple[str, ...]:
    from qsd.losses import REGISTRY

    loss = REGISTRY.get(values["loss.name"])
    of_loss = ("loss.name", *(f"loss.{field}" for field in loss.fields))
    unread = "training.epochs" if values["training.budget"] == "steps" else "training.steps"
    training = (field for field in _section("training") if field != unread)
    return ("data.labels", "model.path", "model.resolution", *of_loss, *_section("lora"), *training, "seed")


def _train_extra(values: Values) -> dict[str, Any]:
    from qsd.losses import REGISTRY

    return _versions(("loss", REGISTRY.get(values["loss.name"]).version))


def _train_processes(values: Values, gpus: int | None) -> int:
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


def _generate_inputs(values: Values) -> tuple[str, ...]:
    return ("train",) if values["adapter"] == "trained" else ()


def _generate_extra(values: Values) -> dict[str, Any]:
    """The first version encoded captions in bf16 where the UNet computes in it."""
    return _versions(("generation.bf16", 2 if values["generation.precision"] == "bf16" else 1))


_PROMPTS = ("evaluation.prompts", "evaluation.splits", "evaluation.prompts_per_split")


def _evaluate_extra(values: Values) -> dict[str, Any]:
    from qsd.rewards.revision import revision

    return {"revisions": {name: revision(name, values["reward.weights"]) for name in values["evaluation.scorers"]}}


def _fixed(*names: str) -> Callable[[Values], tuple[str, ...]]:
    return lambda _values: names


STAGES: dict[str, StageSpec] = {
    spec.name: spec
    for spec in (
        StageSpec("data", "qsd.stages.data:run", _fixed(), _data_reads, _data_extra),
        StageSpec(
            "score",
            "qsd.stages.score:run",
            _fixed("data"),
            _score_reads,
            _score_extra,
            ahead=Ahead("qsd.stages.score:run_ahead", lambda values: int(values["reward.shards"])),
        ),
        StageSpec("select", "qsd.stages.select:run", _select_inputs, _select_reads, _select_extra, version=2),
        StageSpec(
            "encode",
            "qsd.stages.encode:run",
            _encode_inputs,
            _fixed("model.path", "model.resolution", "model.vae_precision", "encode.scope", "training.flip"),
            _none,
            version=2,
        ),
        StageSpec(
            "train",
            "qsd.stages.train:run",
            _fixed("select", "encode"),
            _train_reads,
            _train_extra,
            processes=_train_processes,
        ),
        StageSpec(
            "generate",
            "qsd.stages.generate:run",
            _generate_inputs,
            _fixed(*_section("model"), "adapter", *_section("generation"), *_PROMPTS),
            _generate_extra,
        ),
        StageSpec(
            "evaluate", "qsd.stages.evaluate:run", _fixed("generate"), _fixed("evaluation.scorers"), _evaluate_extra
        ),
    )
}
"""All stages in an order in which every stage follows its inputs."""


def stage_inputs(stage: str, values: Values) -> tuple[str, ...]:
    """Names of the upstream stages of ``stage``."""
    return STAGES[stage].inputs(values)


def stages_of(values: Values) -> list[str]:
    """The stages that a cell needs, inputs before their users; the base model needs only generate and evaluate."""
    needed = {"evaluate"}
    for stage in reversed(STAGES):
        if stage in needed:
            needed.update(stage_inputs(stage, values))
    return [stage for stage in STAGES if stage in needed]


def stage_meaning(stage: str, values: Values) -> dict[str, Any]:
    """The part of a configuration that decides a stage's result, by dotted name.

    Raises:
        UserError: there is nothing at a path, or a reward model has no weights.
    """
    spec = STAGES[stage]
    fields = schema_fields()
    meaning: dict[str, Any] = {}
    for name in spec.reads(values):
        info, value = fields[name], values[name]
        if info.kind is Kind.LOCATION:
            meaning[name] = _content(name, value)
        elif info.kind is Kind.MEANING and value != info.default:
            meaning[name] = value
    return {**meaning, **spec.extra(values)}


def _content(name: str, path: str) -> str:
    try:
        return location_digest(path)
    except UserError as error:
        raise UserError(f"{name}: {error}; put it there, or set {name}") from None


def stage_key(stage: str, values: Values, input_keys: Mapping[str, str]) -> str:
    """The key of a stage: 32 hex digits."""
    return key_of(stage, STAGES[stage].version, stage_meaning(stage, values), input_keys)


def key_of(stage: str, version: int, meaning: Mapping[str, Any], input_keys: Mapping[str, str]) -> str:
    """The key made of a record's own content; a record whose key differs is not valid."""
    return hash_of({"stage": stage, "version": version, "meaning": dict(meaning), "inputs": dict(input_keys)})
