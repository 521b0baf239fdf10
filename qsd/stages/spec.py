"""What each stage means: the fields it reads, its inputs, and the key made from both.

A key covers the stage's name and version, the fields that differ from their defaults among those that this stage *and
the members chosen in it* read, digests of the content behind paths, and the keys of its inputs. So a field that a loss
ignores changes no key, nor does a new field with a default, nor anything that only changes how a stage runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd import run_store
from qsd.config.check import schema_fields
from qsd.config.digest import location_digest
from qsd.config.fields import Kind
from qsd.errors import UserError
from qsd.stages import reads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qsd.stages.reads import Values


@dataclass(frozen=True)
class Precompute:
    """Work that stages of one kind with the same inputs can do together before they run, in any number of processes.

    Attributes:
        entry: ``module:function`` that does it with an ``PrecomputeContext``. The stages find what it left in their
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
    ahead: Precompute | None = None
    processes: Callable[[Values, int | None], int] | None = None


STAGES: dict[str, StageSpec] = {
    spec.name: spec
    for spec in (
        StageSpec("data", "qsd.stages.data.run:run", reads.fixed(), reads.data_reads, reads.data_extra),
        StageSpec(
            "score",
            "qsd.stages.score.run:run",
            reads.fixed("data"),
            reads.score_reads,
            reads.score_extra,
            ahead=Precompute("qsd.stages.score.run:precompute", lambda values: int(values["reward.shards"])),
        ),
        StageSpec(
            "select",
            "qsd.stages.select.run:run",
            reads.select_inputs,
            reads.select_reads,
            reads.select_extra,
            version=2,
        ),
        StageSpec(
            "encode",
            "qsd.stages.encode.run:run",
            reads.encode_inputs,
            reads.fixed("model.path", "model.resolution", "model.vae_precision", "encode.scope", "training.flip"),
            reads.none,
            version=2,
        ),
        StageSpec(
            "train",
            "qsd.stages.train.run:run",
            reads.fixed("select", "encode"),
            reads.train_reads,
            reads.train_extra,
            processes=reads.train_processes,
        ),
        StageSpec(
            "generate",
            "qsd.stages.generate.run:run",
            reads.generate_inputs,
            reads.fixed(*reads.section("model"), "adapter", *reads.section("generation"), *reads.PROMPTS),
            reads.generate_extra,
        ),
        StageSpec(
            "evaluate",
            "qsd.stages.evaluate.run:run",
            reads.fixed("generate"),
            reads.fixed("evaluation.scorers"),
            reads.evaluate_extra,
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
    return run_store.key_of(stage, version, meaning, input_keys)
