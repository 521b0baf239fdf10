"""Stage train: an adapter, fine-tuned by a method on the selected pairs, or on prompts and a reward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.adapters.choices import check_choices
from qsd.config.schema import EQUAL_STEP_RANK
from qsd.errors import UserError
from qsd.losses import REGISTRY as LOSSES
from qsd.models.local_checks import check_targets
from qsd.stages.stage_spec import BatchField, Rehearsal, StageCost, StageSpec, member_code, section
from qsd.stages.train import off_policy, on_policy
from qsd.training.methods import REGISTRY as METHODS
from qsd.training.methods import method_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from qsd.stages.stage_spec import Compute, Counts, ModelSizes, Values, Work

REHEARSED_STEPS = 3
"""The first step is slow, the second has the optimiser's state in memory, the third gives the time."""


def _kind(values: Values) -> ModuleType:
    """What differs between the two kinds of methods."""
    return on_policy if method_of(values).on_policy else off_policy


def _inputs(values: Values) -> tuple[str, ...]:
    return method_of(values).inputs


def _reads(values: Values) -> tuple[str, ...]:
    """The method with its loss, the adapter, the training, and what it is trained on."""
    names = ["model.path", "model.resolution", "method.name"]
    rank, pairs = values["lora.rank"], not method_of(values).on_policy
    # At these ranks a rule for the scale changes nothing; on samples there is no dropout.
    read = {"lora.scaling": rank != EQUAL_STEP_RANK, "lora.rslora": rank > 1, "lora.dropout": pairs}
    names += [name for name in section("lora") if read.get(name, True)]
    return (*names, *_kind(values).reads(values), "seed")


def _same(values: Values) -> dict[str, Any]:
    return _kind(values).same(values)  # type: ignore[no-any-return]


def _extra(values: Values) -> dict[str, Any]:
    """The code of the loss, and what the kind of method adds.

    Raises:
        UserError: targets that a model on this machine does not have, settings of an adapter that exclude one another,
            or as the kind of method.
    """
    check_choices(values)
    check_targets(values["model.path"], tuple(values["lora.targets"]))
    method = method_of(values)
    of_loss = member_code("loss", LOSSES, values["loss.name"]) if method.uses_loss else {}
    return {**of_loss, **_kind(values).extra(values)}


def _unused(values: Values) -> Mapping[str, str]:
    return _kind(values).unused(values)  # type: ignore[no-any-return]


def _execution(values: Values) -> tuple[str, ...]:
    return _kind(values).EXECUTION  # type: ignore[no-any-return]


def _processes(values: Values, gpus: int | None) -> int:
    """One per GPU unless the experiment says how many.

    Raises:
        UserError: more processes than GPUs, or than pairs or prompts of a step.
    """
    asked, device, field = values["training.processes"], values["device"], _kind(values).ITEMS
    items = values[field]
    spread = device in ("auto", "cuda")
    count = int(asked or (gpus if spread and gpus else 1))
    if spread and gpus and count > gpus:
        raise UserError(
            f"training.processes is {count}, but the cluster profile gives a training {gpus} GPUs; "
            "make them equal, or leave training.processes out"
        )
    if asked and count > items:
        raise UserError(
            f"training.processes is {count}, but they would share {field}, which is {items}; use at most {items}"
        )
    if count > items:
        raise UserError(
            f"{field} is {items}, but {count} processes would share it; use at most {items} "
            "(training.processes, or gpus of train in the cluster profile)"
        )
    return count


def _work(values: Values, counts: Counts) -> Work:
    return _kind(values).work(values, counts)  # type: ignore[no-any-return]


def _compute(values: Values, passes: float, processes: int, sizes: ModelSizes) -> Compute:
    return _kind(values).compute(values, passes, processes, sizes)  # type: ignore[no-any-return]


def _size(values: Values, rank: float, sizes: ModelSizes) -> float:
    """An adapter of rank 8 has 0.4 % of the denoiser's parameters, in fp32."""
    return 4e-3 * sizes.denoiser_parameters(values) * 4 * rank / 8


def _batches(values: Values) -> tuple[BatchField, ...]:
    return _kind(values).BATCHES  # type: ignore[no-any-return]


def _enough(_values: Values) -> dict[str, int]:
    return {"training.steps": REHEARSED_STEPS, "training.checkpoint_steps": 2}


STAGE = StageSpec(
    help="Train a LoRA on the selected pairs, or on a reward.",
    entry="qsd.stages.train.run:run",
    reads=_reads,
    same=_same,
    inputs=tuple(dict.fromkeys(name for method in METHODS.names() for name in METHODS.get(method).inputs)),
    chosen_inputs=_inputs,
    extra=_extra,
    unused=_unused,
    execution=_execution,
    processes=_processes,
    cost=StageCost(_work, _compute, _size),
    rehearsal=Rehearsal(
        shape=(
            "model.path",
            "model.resolution",
            "method.name",
            "method.prompts_per_step",
            "method.guidance_scale",
            "method.sampling_batch",
            "loss.name",
            "lora.rank",
            "lora.targets",
            "lora.dora",
            "lora.dropout",
            "training.pairs_per_step",
            "training.micro_batch",
            "training.precision",
            "training.gradient_checkpointing",
        ),
        enough=_enough,
        settings={"training.budget": "steps"},
    ),
    chosen_batches=_batches,
    waits_for_canary=True,
    uses_reference_errors=True,
    in_tables=True,
)
