"""The minority metric of Adaptive-DPO, the weight made from it, and the margin; not a loss by itself.

Zhang et al. 2025, arXiv 2503.16921; formulas from fanfanffff1/Adaptive-DPO, dpo_train_un.py.

    d_k                             the logit d of annotator k: the current model, and moving averages of its adapter
    a_k  = ρ d_k / scale_k          scale_k: see ``scales``
    conf = |mean_k σ(a_k) - 1|      how little the annotators believe the label
    stab = min(1, std_k(a_k))       how much they differ; unbiased, of a and not of σ(a)
    u    = conf · stab              the metric, in [0, 1]; large = suspected minority, such as a flipped label

Nothing here carries gradients. A fresh adapter has d = 0 everywhere, so stab = 0, u = 0 and the full weight: the
published code's two warm-up steps, which it needs against 0/0, come by themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.config.fields import meaning
from qsd.errors import UserError
from qsd.losses import Beta

if TYPE_CHECKING:
    from torch import Tensor

    from qsd.losses import PairErrors


@dataclass
class Settings(Beta):
    """β, the annotators, and what their metric does to the weight and the margin of a pair."""

    adaptive_decays: list[float] = meaning(
        [0.9999, 0.5], "of adaptive_dpo's annotators beside the current model", least=0, below=1
    )
    adaptive_normalizer: str = meaning(
        "step",
        "scale of d in adaptive_dpo's metric: over the step, by bin of the timestep, as published over the "
        "micro-batch, or none",
        choices=("step", "timestep", "micro_batch", "none"),
    )
    adaptive_group: int = meaning(
        16, "pairs of the published micro-batch, whose size acts as a part of rho; micro_batch demands it", least=1
    )
    adaptive_rho: float = meaning(15.0, "sharpness of adaptive_dpo's annotators; 1e4 fits without normalizer", above=0)
    adaptive_weight: str = meaning(
        "linear", "how the metric lowers a pair's weight", choices=("linear", "quadratic", "sqrt", "exponential")
    )
    adaptive_slope: float = meaning(
        10.0, "c of adaptive_dpo's weight; with 0 the linear weight is the same for all pairs", least=0
    )
    adaptive_intercept: float = meaning(1.0, "b of adaptive_dpo's weight", above=0)
    adaptive_margin: str = meaning(
        "quadratic",
        "quadratic and linear as published, next to nothing at their scale; scaled acts; or none",
        choices=("quadratic", "linear", "scaled", "none"),
    )
    adaptive_margin_weight: float = meaning(1.0, "k of the scaled margin, per unit of the metric squared", least=0)


BINS = 8
"""Equal parts of the diffusion times; under the normalizer ``timestep`` each has a scale of its own."""
TIMESTEP = "timestep"
"""The normalizer whose scales the training keeps (``qsd.training.offpolicy.running_scales``)."""
_TIMESTEPS = 1000
_TINY = 1e-20
"""Stands for a scale of zero, where every d is zero as well."""


def annotators(errors: PairErrors) -> Tensor:
    """d_k, [K, B], detached: first of the current model, then of each moving average.

    Raises:
        ValueError: without reference errors or without moving averages.
    """
    import torch

    if not errors.averaged:
        raise ValueError("the minority metric needs the errors of moving averages in errors.averaged")
    return torch.stack([errors.logits.detach(), *errors.averaged_logits()])


def step_statistics(errors: PairErrors, settings: Settings) -> Tensor:
    """[1 + K] over all pairs of a step: the mean of d, then the root mean square of every d_k."""
    import torch

    logits = annotators(errors).double()
    return torch.cat([logits[0].mean().reshape(1), logits.square().mean(dim=1).sqrt()]).float()


def bins(timesteps: Tensor) -> Tensor:
    """The bin of each diffusion time, [B] int64 in 0 … ``BINS`` - 1; t = 1000 is in the last.

    Integers are timesteps of a DDPM, of 1000. Floating-point numbers are a flow's σ in [0, 1], and t is 1000 σ.
    """
    share = timesteps.double() if timesteps.is_floating_point() else timesteps.double() / _TIMESTEPS
    return (share * BINS).long().clamp(0, BINS - 1)


def bin_sums(values: Tensor, timesteps: Tensor | None) -> Tensor:
    """[1 + K, BINS], fp64: how many pairs are in each bin, then the sums of the squares of K values of B pairs, [K, B].

    Raises:
        ValueError: without timesteps.
    """
    import torch

    if timesteps is None:
        raise ValueError("scales by timestep need the diffusion times of the pairs in errors.timesteps")
    inside = torch.nn.functional.one_hot(bins(timesteps), BINS).double()
    # A product and not a scattered sum, whose order differs from run to run on a GPU.
    return torch.cat([torch.ones_like(values[:1]).double(), values.double().square()]) @ inside


def bin_scales(sums: Tensor) -> Tensor:
    """Root mean square of each value in each bin, [K, BINS] fp32, of what ``bin_sums`` gave; 0 for an empty bin."""
    return (sums[1:] / sums[:1].clamp_min(_TINY)).sqrt().float()


def scales(logits: Tensor, errors: PairErrors, settings: Settings) -> Tensor:
    """scale_k, [K, 1] or [K, B], for ``loss.adaptive_normalizer``.

    - ``micro_batch``, the published code: the L2 norm of d_k over the micro-batch. At a typical d it is √B · RMS, so
      a larger micro-batch makes every annotator less sure: the metric depends on how the step is cut.
    - ``step``: √G · RMS of d_k over the whole step, G = ``loss.adaptive_group`` = 16, the recipe's micro-batch. The
      same at a micro-batch of G on average, but independent of micro-batches and processes.
    - ``timestep``: √G · root mean square of d_k in the bin of the pair's timestep, which the statistics have after
      those of the step. d is up to a hundred times larger near the image than near pure noise, so that with one scale
      for all timesteps no annotator contradicts a label at the late ones.
    - ``none``: 1.

    Raises:
        UserError: ``micro_batch`` with a micro-batch other than ``loss.adaptive_group``; the size is part of the
            result, but ``training.micro_batch`` is no part of a cell's meaning.
        ValueError: ``step`` or ``timestep`` without their statistics.
    """
    import torch

    statistics, count = errors.statistics, len(logits)
    group = settings.adaptive_group
    if settings.adaptive_normalizer == "none":
        return torch.ones_like(logits[:, :1])
    if settings.adaptive_normalizer == "micro_batch":
        if logits.shape[1] != group:
            raise UserError(
                f"loss.adaptive_normalizer 'micro_batch' met a micro-batch of {logits.shape[1]} pairs, not of "
                f"loss.adaptive_group = {group}; set training.micro_batch to {group} and training.pairs_per_step to a "
                "multiple of it, or use the normalizer 'step'"
            )
        norm: Tensor = logits.double().norm(dim=1, keepdim=True)
        return norm.clamp_min(_TINY).to(logits.dtype)
    if statistics is None:
        raise ValueError(f"the normalizer '{settings.adaptive_normalizer}' needs the statistics of the step")
    scale = statistics[1 : 1 + count, None]
    if settings.adaptive_normalizer == TIMESTEP:
        if errors.timesteps is None or len(statistics) != 1 + count * (1 + BINS):
            raise ValueError(
                "the normalizer 'timestep' needs errors.timesteps, and a scale by bin in errors.statistics"
            )
        scale = statistics[1 + count :].reshape(count, BINS)[:, bins(errors.timesteps)]
    return math.sqrt(group) * scale.clamp_min(_TINY)


def minority(errors: PairErrors, settings: Settings) -> Tensor:
    """u, [B], in [0, 1], detached; raises as ``confidence_and_stability``."""
    confidence, stability = confidence_and_stability(errors, settings)
    return confidence * stability


def confidence_and_stability(errors: PairErrors, settings: Settings) -> tuple[Tensor, Tensor]:
    """conf and stab, [B] each, in [0, 1], detached.

    Raises:
        UserError: as ``scales``.
        ValueError: as ``annotators`` and ``scales``.
    """
    import torch

    logits = annotators(errors)
    opinions = settings.adaptive_rho * (logits / scales(logits, errors, settings))
    confidence = (torch.sigmoid(opinions).mean(dim=0) - 1).abs()
    return confidence, opinions.std(dim=0).clamp_max(1)


def weight(metric: Tensor, settings: Settings) -> Tensor:
    """W, [B], > 0, falling in u.

    Linear: 1/(c u + b); quadratic: 1/(c u² + b); sqrt: 1/(exp(c √u) + b); exponential: 1/(exp(c u) + b), which the
    published code calls sigmoid. c is ``loss.adaptive_slope``, b ``loss.adaptive_intercept``.
    """
    forms = {
        "linear": lambda: settings.adaptive_slope * metric,
        "quadratic": lambda: settings.adaptive_slope * metric.square(),
        "sqrt": lambda: (settings.adaptive_slope * metric.sqrt()).exp(),
        "exponential": lambda: (settings.adaptive_slope * metric).exp(),
    }
    return (forms[settings.adaptive_weight]() + settings.adaptive_intercept).reciprocal()


def margin(metric: Tensor, logits: Tensor, statistics: Tensor, settings: Settings) -> Tensor:
    """Γ, [B], detached; it is subtracted from β/2 · d, so a suspect pair is asked for less. b = β/2, D = mean of d.

    - ``quadratic``, ``linear``, the published code: Γ = D - u²/b, D - u/b. With b = 1000 both terms are below 1e-3
      where b d is 0.1 to several: next to nothing.
    - ``scaled``: Γ = b D - k u², k = ``loss.adaptive_margin_weight``, in the units of b d.
    - ``none``: 0.

    D is over the step; over the micro-batch with the published normalizer.
    """
    import torch

    half_beta = 0.5 * settings.beta
    published = settings.adaptive_normalizer == "micro_batch"
    mean = logits.detach().mean() if published else statistics[0]
    forms = {
        "quadratic": lambda: mean - metric.square() / half_beta,
        "linear": lambda: mean - metric / half_beta,
        "scaled": lambda: half_beta * mean - settings.adaptive_margin_weight * metric.square(),
        "none": lambda: torch.zeros_like(metric),
    }
    return forms[settings.adaptive_margin]()
