"""What a kind of stage declares of itself: all that planning, costs, rehearsals and recovery need to know of it.

Each kind is one folder, ``qsd/stages/<name>``: ``spec.py`` declares it and imports nothing heavy, ``run.py`` does the
work. ``qsd.stages.spec`` collects them. A new kind is a new folder; nothing else has a list of stages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from qsd.config.check import schema_fields
from qsd.config.fields import Kind
from qsd.config.schema import USUAL_MICRO_BATCH

if TYPE_CHECKING:
    from qsd.registry import Registry

Values = Mapping[str, Any]
"""A flat configuration (``qsd.config.load.Flat``)."""


# ── Work and cost ────────────────────────────────────────────────────────────────────────────────────────────────────


class Counts(Protocol):
    """How many pairs and images there are, as far as it can be known before a stage runs."""

    def pairs(self, values: Values, /) -> int:
        """Pairs of the data set."""

    def selected(self, values: Values, /) -> float:
        """Pairs that the selection keeps; all of them where only the scores decide how many."""

    def images(self, values: Values, /) -> int:
        """Images that a cell generates for its evaluation."""


@dataclass(frozen=True)
class Work:
    """What one stage does.

    Attributes:
        amount: grows as its time does.
        unit: what ``amount`` counts.
        output_size: grows as the size of its artefact does.
        comparable_key: two stages of a kind can be compared by their times only if this is equal.
    """

    amount: float
    unit: str
    output_size: float
    comparable_key: tuple[Any, ...] = ()


class ModelSizes(Protocol):
    """Sizes of the networks that a configuration names, guessed for those that are not on this machine."""

    def denoiser_flop(self, values: Values, /) -> float:
        """Operations of one forward pass of one image through the denoiser."""

    def denoiser_parameters(self, values: Values, /) -> int:
        """Parameters of the denoiser."""

    def encoder_flop(self, values: Values, /) -> float:
        """Operations of encoding one image to a latent."""

    def scorer_flop(self, values: Values, name: str, /) -> float:
        """Operations of scoring one image with a reward model."""

    def latent_numbers(self, values: Values, /) -> float:
        """Numbers in one latent."""

    def text_numbers(self, values: Values, /) -> int:
        """Numbers that are stored of one caption."""

    def image_bytes(self, values: Values, /) -> float:
        """Bytes of one generated image as PNG."""


@dataclass(frozen=True)
class Compute:
    """What some work asks of a machine.

    Attributes:
        flop: operations in all.
        precision: in which they are done, ``fp32``, ``tf32`` or ``bf16``.
        calls: of a network by each process: on a GPU each takes some time, however small the batch.
        decoded_images: images that are read and decoded on the CPU.
    """

    flop: float = 0.0
    precision: str = "fp32"
    calls: float = 0.0
    decoded_images: float = 0.0


def arithmetic_of(precision: str) -> str:
    """The ``Compute.precision`` of a ``training.precision``: whatever norms compute in is a small part of the work."""
    return "fp32" if precision == "fp32" else "bf16"


def _one_stage(_values: Values, _counts: Counts) -> Work:
    return Work(1, "stages", 1)


def _no_compute(_values: Values, _amount: float, _processes: int, _sizes: ModelSizes) -> Compute:
    return Compute()


def _rows_of_a_table(_values: Values, output_size: float, _sizes: ModelSizes) -> float:
    return 100.0 * output_size


@dataclass(frozen=True)
class StageCost:
    """How a stage's time and disk grow.

    Attributes:
        work: (values, counts) -> its work; by default every stage of the kind counts as one.
        compute: (values, amount of work, processes that share it, sizes) -> what that asks of a machine, beside the
            start-up; by default nothing.
        size: (values, ``Work.output_size``, sizes) -> bytes of its artefact; by default 100 for each of them.
    """

    work: Callable[[Values, Counts], Work] = _one_stage
    compute: Callable[[Values, float, int, ModelSizes], Compute] = _no_compute
    size: Callable[[Values, float, ModelSizes], float] = _rows_of_a_table


# ── Rehearsal and recovery ───────────────────────────────────────────────────────────────────────────────────────────


def _nothing_reduced(_values: Values) -> dict[str, int]:
    return {}


@dataclass(frozen=True)
class Rehearsal:
    """How a stage is rehearsed: with the memory and the speed of the real one, and little work.

    Attributes:
        shape: names of the fields that decide its memory and the time of one unit of its work.
        enough: values -> field -> as much of it as the stage needs to show these; a smaller value stays, and null
            becomes this. Where several stages name a field, the largest of their numbers holds.
        settings: fields that the rehearsal sets.
    """

    shape: tuple[str, ...] = ()
    enough: Callable[[Values], Mapping[str, int]] = _nothing_reduced
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchField:
    """The execution field that decides how much memory a stage takes, and no result.

    Attributes:
        name: of the field.
        at_most: field whose value a batch never exceeds, if any and if it is given; or values -> that number.
    """

    name: str
    at_most: str | Callable[[Values], int] | None = None

    def effective(self, values: Values) -> int:
        """How many items the stage takes at a time; at most, where 0 leaves that to the free memory."""
        size = int(values[self.name]) or (sys.maxsize if self.at_most else USUAL_MICRO_BATCH)
        if self.at_most is None:
            return size
        most = values[self.at_most] if isinstance(self.at_most, str) else self.at_most(values)
        return min(size, int(most)) if most else size


@dataclass(frozen=True)
class Precompute:
    """Work that stages of one kind with the same inputs can do together before they run, in any number of processes.

    Attributes:
        entry: ``module:function`` that does it with a ``PrecomputeContext``. The stages find what it left in their
            ``StageContext.shared``, and do what is missing themselves.
        processes: values -> how many processes are asked for.
    """

    entry: str
    processes: Callable[[Values], int]


# ── The stage ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _no_extra(_values: Values) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class StageSpec:
    """One kind of stage.

    Attributes:
        help: what it does, in one sentence, for ``qsd --help``.
        entry: ``module:function`` that runs it with a ``StageContext``.
        reads: values -> dotted names of the fields that decide its result.
        inputs: the stages whose artefacts it may take; they come before it.
        chosen_inputs: values -> those of ``inputs`` that it takes; None: all of them.
        same: values -> fields whose value has the effect of another one, with that one, by dotted name: what the
            result is known by, so that configurations with one result have one key.
        extra: values -> further parts of its meaning, such as revisions of weights.
        unused: values -> fields for which the stage has no use, each with what takes their place. An experiment may
            give them for other cells; what is meant for a cell with these values alone must not.
        execution: values -> the fields that change how it runs and no result, without those of all stages
            (``OF_ALL_STAGES``); None: it may be any such field.
        version: raised whenever the same meaning gives another result.
        wanted: values -> whether a cell has this stage for its own sake, and is finished only with it; None: it is only
            run as an input of other stages.
        precompute: work that stages of this kind can do together beforehand; None for none.
        processes: (values, GPUs) -> how many processes run it together; None: always one. The GPUs are those that its
            place gives each stage, or None where it gives as many as there are processes. May raise UserError.
        cost: how its time and disk grow.
        rehearsal: how it is rehearsed.
        batch: what is halved when it runs out of memory; None: nothing can be.
        chosen_batches: values -> all that is halved, of a stage for which that depends on its values; None: ``batch``.
        examines_model: whether the base model is examined before it, since it takes long and only later stages load the
            model.
        uses_gpu: False: it computes on the CPU wherever it runs.
        waits_for_canary: whether it waits for the rehearsal of its cell, unless one of its inputs does.
        uses_reference_errors: whether it takes part in the reference errors that all cells of a store share.
        in_tables: whether tables and figures are made from its artefact.
        counts: what the ``summary.json`` of its artefact counts for later stages: ``pairs`` of the data set or
            ``selected`` pairs -> the field with the number.
    """

    help: str
    entry: str
    reads: Callable[[Values], tuple[str, ...]]
    inputs: tuple[str, ...] = ()
    chosen_inputs: Callable[[Values], tuple[str, ...]] | None = None
    same: Callable[[Values], Mapping[str, Any]] = _no_extra
    extra: Callable[[Values], dict[str, Any]] = _no_extra
    unused: Callable[[Values], Mapping[str, str]] = _no_extra
    execution: Callable[[Values], tuple[str, ...]] | None = None
    version: int = 1
    wanted: Callable[[Values], bool] | None = None
    precompute: Precompute | None = None
    processes: Callable[[Values, int | None], int] | None = None
    cost: StageCost = StageCost()
    rehearsal: Rehearsal = field(default_factory=Rehearsal)
    batch: BatchField | None = None
    chosen_batches: Callable[[Values], tuple[BatchField, ...]] | None = None
    examines_model: bool = False
    uses_gpu: bool = True
    waits_for_canary: bool = False
    uses_reference_errors: bool = False
    in_tables: bool = False
    counts: Mapping[str, str] = field(default_factory=dict)

    def settings(self, values: Values) -> dict[str, Any]:
        """The fields that decide its result, by dotted name, each with the value that stands for all of its effect."""
        same = self.same(values)
        return {name: same[name] if name in same else values[name] for name in self.reads(values)}

    def fields(self, values: Values) -> frozenset[str]:
        """All fields that have an effect on its result or on how it runs."""
        if self.execution is None:
            execution = tuple(name for name, info in schema_fields().items() if info.kind is Kind.EXECUTION)
        else:
            execution = (*OF_ALL_STAGES, *self.execution(values))
        return frozenset((*self.reads(values), *execution))

    def inputs_for(self, values: Values) -> tuple[str, ...]:
        """Names of the upstream stages under some values."""
        return self.inputs if self.chosen_inputs is None else self.chosen_inputs(values)

    def batches_for(self, values: Values) -> tuple[BatchField, ...]:
        """All that is halved under some values when it runs out of memory."""
        if self.chosen_batches is not None:
            return self.chosen_batches(values)
        return () if self.batch is None else (self.batch,)


OF_ALL_STAGES = ("device", "threads", "reward.weights", "tracking.wandb", "tracking.project", "tracking.entity")
"""Execution fields of every stage, or of the sweep as a whole."""

OF_TRAINING = tuple(
    f"training.{name}"
    for name in (
        "micro_batch",
        "processes",
        "attention",
        "channels_last",
        "compile",
        "gradient_checkpointing",
        "checkpoint_steps",
        "checkpoint_seconds",
    )
)
"""Execution fields of a training by any method."""


# ── What specs share ─────────────────────────────────────────────────────────────────────────────────────────────────


def section(name: str) -> tuple[str, ...]:
    """Dotted names of all fields of a section of the configuration."""
    return tuple(dotted for dotted in schema_fields() if dotted.startswith(f"{name}."))


def always(_values: Values) -> bool:
    """Whatever the values."""
    return True


def member_code(dotted: str, registry: Registry[Any], name: str) -> dict[str, Any]:
    """What a chosen member's code adds to a meaning: the digest of its own source, and its version above one.

    The version is for what the digest does not see: code that members share and libraries.
    """
    version = registry.get(name).version
    code = {f"{dotted}.source": registry.source(name)}
    return code if version == 1 else {**code, f"{dotted}.version": version}
