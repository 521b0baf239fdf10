"""No step waits for the device: it runs on a device without numbers, from which nothing can be read.

PyTorch's ``meta`` tensors have shapes and no content. Whatever would read a number back (``item``, ``tolist``, ``cpu``,
a condition on a tensor, the places where one is true) raises there; what would copy numbers to the device by a call
that waits is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from qsd.losses import REGISTRY, PairErrors
from qsd.models.denoiser import load_denoiser
from qsd.training.engine import Engine, Recipe
from qsd.training.offpolicy.automatic_beta import automatic_beta, sum_of_sizes
from qsd.training.offpolicy.columns import pair_sums
from qsd.training.offpolicy.method import PairsMethod
from tests.qsd import tiny_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.qsd.tiny_stages import TinyStages

pytestmark = pytest.mark.slow

META = torch.device("meta")


@dataclass
class Copies:
    """Copies to the device that wait, by the name of the call."""

    names: list[str] = field(default_factory=list)


class _Calls(TorchFunctionMode):
    def __init__(self, copies: Copies) -> None:
        super().__init__()
        self._copies = copies

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in ("tensor", "as_tensor", "new_tensor") and result.is_meta:
            self._copies.names.append(name)
        return result


class _Operations(TorchDispatchMode):
    def __init__(self, copies: Copies) -> None:
        super().__init__()
        self._copies = copies

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        source = args[1] if name == "copy_" else args[0] if args else None
        waits = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
        is_copy = (
            name in ("_to_copy", "copy_") and isinstance(source, torch.Tensor) and isinstance(result, torch.Tensor)
        )
        if is_copy and waits and result.is_meta and not source.is_meta:
            self._copies.names.append(name)
        return result


class StoredErrors:
    """In place of a store in which all reference errors are found."""

    found = computed = damaged = 0

    def of(self, batches: Any) -> list[Any]:
        return [np.full(item.fingerprints.shape, 0.5, dtype=np.float32) for item in batches]


@pytest.fixture(scope="module")
def engine(world: TinyStages) -> Engine[PairsMethod]:
    """A training on ``meta``, after a first step, which may keep on the device what later steps use.

    A loss with statistics over the step, reference errors and moving averages; dropout; two micro-batches.
    """
    settings: dict[str, Any] = {"loss__name": "adaptive_dpo", "training__ema": 0.9, "lora__dropout": 0.2}
    config = world.config(**settings, training__pairs_per_step=2, training__micro_batch=1, lora__targets=["to_q"])
    denoiser = load_denoiser(config.model.path, META, config.training.precision)
    method = PairsMethod(config, world.artefacts, denoiser)
    batches: Any = method.batches
    batches._shared, batches._checked = StoredErrors(), True
    made = Engine(method, Recipe.of_adapter(method.config.training))
    made.step(0)
    return made


def waits_of(work: Callable[[], object]) -> list[str]:
    copies = Copies()
    with _Calls(copies), _Operations(copies):
        work()
    return copies.names


def test_a_step_does_not_wait(engine: Engine[PairsMethod]) -> None:
    assert waits_of(lambda: engine.step(1)) == []


@pytest.mark.parametrize("name", REGISTRY.names())
def test_no_loss_waits(world: TinyStages, name: str) -> None:
    loss, settings = REGISTRY.get(name), world.config(loss__name=name).loss
    automatic = automatic_beta(loss, world.config(loss__name=name, loss__beta_schedule="automatic").loss, META)

    def step() -> None:
        chosen: Any = settings if automatic is None else automatic.settings()
        winner, loser, ref_winner, ref_loser = torch.empty(4, 3, device=META)
        winner.requires_grad_(True)
        count = len(loss.averages(chosen)) if loss.averages else 0
        errors = PairErrors(winner, loser, ref_winner, ref_loser, tuple([(ref_winner, ref_loser)] * count))
        if loss.statistics:
            errors = replace(errors, statistics=loss.statistics(errors, chosen))
        values = loss.function(errors, chosen)
        values.sum().backward()
        pair_sums(values, errors)
        if automatic is not None:
            automatic.update(sum_of_sizes(errors).reshape(1))

    assert waits_of(step) == []


def test_reading_a_number_would_be_noticed() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        waits_of(lambda: float(torch.ones(1, device=META)))


@pytest.mark.parametrize("waits", [lambda: torch.ones(2).to(META), lambda: torch.tensor([1, 2], device=META)])
def test_a_copy_that_waits_would_be_noticed(waits: Callable[[], object]) -> None:
    assert len(waits_of(waits)) == 1
    assert waits_of(lambda: torch.ones(2).to(META, non_blocking=True)) == []


def test_sdxl_copies_the_sizes_of_its_images_once(tmp_path: Path) -> None:
    denoiser = load_denoiser(str(tiny_pipeline.save_xl(tmp_path)), META)
    pooled = torch.zeros(2, 16, device=META)
    noisy = torch.zeros(2, 4, 8, 8, device=META)
    family: Any = denoiser.family
    waits = [waits_of(lambda: family.added_conditioning(noisy, {"pooled": pooled}, 13)) for _ in range(2)]
    assert waits == [["tensor"], []]
