"""Stage train: an adapter fine-tuned on the selected pairs."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from qsd.config.schema import EQUAL_STEP_RANK
from qsd.errors import UserError
from qsd.losses import REGISTRY
from qsd.stages.stage_spec import (
    BatchField,
    Compute,
    Rehearsal,
    StageCost,
    StageSpec,
    Work,
    member_code,
    section,
)
from qsd.training.loss_cost import Passes, passes_of

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Counts, ModelSizes, Values

REHEARSED_STEPS = 3
"""The first step is slow, the second has the optimiser's state in memory, the third gives the time."""


def _reads(values: Values) -> tuple[str, ...]:
    """The loss with the fields that it reads, the adapter, and the training without the budget that is not in force."""
    of_loss = ("loss.name", *_settings(values["loss.name"]))
    unread = "training.epochs" if values["training.budget"] == "steps" else "training.steps"
    training = (name for name in section("training") if name != unread)
    adapter = [name for name in section("lora") if name != "lora.scaling" or values["lora.rank"] != EQUAL_STEP_RANK]
    return ("data.labels", "model.path", "model.resolution", *of_loss, *adapter, *training, "seed")


@cache
def _settings(loss: str) -> tuple[str, ...]:
    """Dotted names of the settings of a loss."""
    return tuple(f"loss.{name}" for name in REGISTRY.get(loss).fields)


def _extra(values: Values) -> dict[str, Any]:
    """The code of the loss."""
    return member_code("loss", REGISTRY, values["loss.name"])


def _processes(values: Values, gpus: int | None) -> int:
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


def _work(values: Values, counts: Counts) -> Work:
    comparable_key = (values["model.path"], values["model.resolution"], values["training.precision"])
    if values["training.budget"] == "steps":
        pairs = values["training.steps"] * values["training.pairs_per_step"]
    else:
        pairs = max(values["training.pairs_per_step"], values["training.epochs"] * counts.selected(values))
    passes = pairs * passes_per_pair(values).forward_passes
    return Work(passes, "images x denoiser passes", values["lora.rank"], comparable_key)


def passes_per_pair(values: Values) -> Passes:
    """What a pair costs under the loss of a flat configuration."""
    loss = values["loss.name"]
    read = (values[name] for name in _settings(loss))
    settings = tuple(tuple(value) if isinstance(value, list) else value for value in read)
    return _passes(loss, settings, values["training.pairs_per_step"] <= values["training.micro_batch"])


@cache
def _passes(loss: str, settings: tuple[Any, ...], whole_steps: bool) -> Passes:
    """Remembered, because thousands of cells have a handful of losses between them."""
    member = REGISTRY.get(loss)
    return passes_of(member, member.settings(**dict(zip(member.fields, settings, strict=True))), whole_steps)


def _compute(values: Values, passes: float, processes: int, sizes: ModelSizes) -> Compute:
    of_pair, per_step = passes_per_pair(values), values["training.pairs_per_step"]
    steps = passes / (of_pair.forward_passes * per_step)
    batches = steps * math.ceil(per_step / (values["training.micro_batch"] * processes))
    return Compute(passes * sizes.denoiser_flop(values), values["training.precision"], of_pair.calls * batches)


def _size(values: Values, rank: float, sizes: ModelSizes) -> float:
    """An adapter of rank 8 has 0.4 % of the denoiser's parameters, in fp32."""
    return 4e-3 * sizes.denoiser_parameters(values) * 4 * rank / 8


def _enough(_values: Values) -> dict[str, int]:
    return {"training.steps": REHEARSED_STEPS, "training.checkpoint_steps": 2}


STAGE = StageSpec(
    entry="qsd.stages.train.run:run",
    reads=_reads,
    inputs=("select", "encode"),
    extra=_extra,
    processes=_processes,
    cost=StageCost(_work, _compute, _size),
    rehearsal=Rehearsal(
        shape=(
            "model.path",
            "model.resolution",
            "loss.name",
            "lora.rank",
            "lora.targets",
            "training.pairs_per_step",
            "training.micro_batch",
            "training.precision",
        ),
        enough=_enough,
        settings={"training.budget": "steps"},
    ),
    batch=BatchField("training.micro_batch", at_most="training.pairs_per_step"),
    waits_for_canary=True,
    uses_reference_errors=True,
    in_tables=True,
)
