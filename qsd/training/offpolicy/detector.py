"""How well flipped labels can be found after a training: the minority metric, disagreement of the model, of the scorer.

The pairs that were trained on, or those of the fold that was not (``training.held_out_fold``), go through the trained
model once more, unflipped in the picture and with their captions: the first ``MOST_PAIRS`` of them in the order of a
hash of the id. Detectors, each larger for a suspect pair, are compared with the flips that were injected
(``detection.py``).

- ``metric``: u of ``qsd.losses._annotators``, for losses that have annotators; scales over all these pairs.
- ``confidence``: the first factor of u.
- ``minus_d``: -d, how much less the model favours the labelled winner than the reference does.
- ``margin``: m, how much worse the trained model denoises the labelled winner; d = r - m.
- ``base_margin``: r, the same of the base model.
- ``minus_score_gap``: -(ψ_w - ψ_l), how much worse the reward model scores the labelled winner.
- ``contradicts_scorer``: whether it scores it worse at all.
- ``contradicts_judge``: whether the judge of ``data.judge_agrees`` contradicts the label.

With ``training.detection_draws`` above 1, draw k of a pair has its timestep in part k of the law of the noise, and the
numbers are means over the draws. Differences of errors are then in units of their root mean square among these pairs by
bin of the timestep, and so is each d_k behind u and its confidence: those of late timesteps are up to a hundred times
smaller, and a plain mean would hear the early ones alone. Under ``adaptive_normalizer: timestep`` u and its confidence
have a scale for each bin of one draw, too.

The draws are those of seed 0. A training with this seed has used some of them itself, for pairs that it was trained on.
Where the model was trained on the very labels that it judges, flipped ones among them, no detector built on it finds
what it has memorised: a second or third epoch lowers the numbers of the trained model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qsd.config.schema import ExperimentConfig
from qsd.data.label_noise import CONTRADICTED
from qsd.draws import uniforms
from qsd.encoding.store import EncodedPairs
from qsd.files import texts
from qsd.losses import REGISTRY, Loss, PairErrors
from qsd.losses._annotators import (
    TIMESTEP,
    annotators,
    bin_scales,
    bin_sums,
    bins,
    confidence_and_stability,
    step_statistics,
)
from qsd.losses._annotators import Settings as AnnotatorSettings
from qsd.models.denoiser import Denoiser
from qsd.models.process import DiffusionProcess
from qsd.training.ema import ParameterEma
from qsd.training.offpolicy.batches import PairBatch, PairStream, selected_pairs
from qsd.training.offpolicy.denoising_errors import model_errors, reference_errors
from qsd.training.offpolicy.detection import Detection
from qsd.training.offpolicy.folds import MOST_PAIRS, folds_of

_SEED = 0
_PURPOSE = "detector"


@dataclass(frozen=True)
class Opinions:
    """What others say of the label of a pair, by its id, where it is known.

    Attributes:
        score_gap: ψ_w - ψ_l of the reward model.
        contradicted: 1 where the judge of ``data.judge_agrees`` contradicts it, else 0.
    """

    score_gap: Mapping[str, float]
    contradicted: Mapping[str, float]

    @classmethod
    def read(cls, select: Path) -> Opinions:
        """From the folder of a select stage."""
        selected = selected_pairs(select)
        pair_ids = texts(selected["pair_id"])

        def known(column: str) -> dict[str, float]:
            if column not in selected.column_names:
                return {}
            values = zip(pair_ids, selected[column].to_pylist(), strict=True)
            return {pair_id: float(value) for pair_id, value in values if value is not None}

        return cls(known("score_gap"), known(CONTRADICTED))


def has_annotators(loss: Loss[Any]) -> bool:
    """Whether a loss has the settings of the minority metric: other losses keep averages for another reason."""
    return issubclass(loss.settings, AnnotatorSettings)


@dataclass(frozen=True)
class JudgedPairs:
    """The pairs to judge: ids, and which of their labels are flipped, [N]."""

    pair_ids: list[str]
    flipped: npt.NDArray[np.bool_]


def judged_pairs(select: Path, trained: PairStream, held_out: int | None) -> JudgedPairs:
    """The pairs that were trained on; with a fold those selected pairs that are in it.

    Args:
        select: folder of the select stage.
        trained: the training pairs.
        held_out: ``training.held_out_fold``.
    """
    if held_out is None:
        return JudgedPairs(trained.pair_ids, trained.flipped)
    selected = selected_pairs(select)
    pair_ids = texts(selected["pair_id"])
    inside = folds_of(pair_ids) == held_out
    flips = selected["flipped"].to_numpy() if "flipped" in selected.column_names else np.zeros(len(inside), dtype=bool)
    return JudgedPairs([pair_id for pair_id, is_in in zip(pair_ids, inside, strict=True) if is_in], flips[inside])


def detection_stream(
    encoded: EncodedPairs, judged: JudgedPairs, config: ExperimentConfig, process: DiffusionProcess
) -> PairStream:
    """The pairs to judge, each once in every epoch, under the labels that were trained on."""
    order = np.argsort(uniforms(judged.pair_ids, _SEED, _PURPOSE), kind="stable")[:MOST_PAIRS]
    plain = replace(config.training, flip=False, caption_dropout=0.0)
    pair_ids = [judged.pair_ids[place] for place in order]
    return PairStream(
        encoded,
        pair_ids,
        np.ones(len(order)),
        plain,
        process,
        _SEED,
        flipped=judged.flipped[order],
        strata=config.training.detection_draws,
    )


def detect(
    denoiser: Denoiser,
    averages: ParameterEma,
    stream: PairStream,
    config: ExperimentConfig,
    opinions: Opinions,
) -> Detection:
    """Judge every pair of the stream.

    Args:
        denoiser: the trained model, in the mode of training.
        averages: those that the loss has asked for come first; others are not looked at.
        stream: made by ``detection_stream``.
        config: sections loss and training.
        opinions: about the labels that were trained on.
    """
    loss = REGISTRY.get(config.loss.name)
    count = len(loss.averages(config.loss)) if loss.averages and has_annotators(loss) else 0
    draws = config.training.detection_draws
    pair_ids, errors = _judge(denoiser, averages, stream, config, count)

    def mean(values: Tensor) -> npt.NDArray[np.float64]:
        """Means over the draws of each pair, [N], of values of all draws, [draws · N]."""
        means: npt.NDArray[np.float64] = values.double().reshape(draws, -1).mean(dim=0).numpy()
        return means

    metric = confidence = np.full(len(pair_ids), np.nan)
    if count:
        parts = _confidence_and_stability(errors, config.loss, draws)
        metric, confidence = mean(parts[0] * parts[1]), mean(parts[0])
    assert errors.ref_winner is not None
    assert errors.ref_loser is not None
    base = PairErrors(errors.ref_winner, errors.ref_loser)
    d, margin, base_margin = (
        mean(values if draws == 1 else _in_units_of_the_bin(values, errors.timesteps))
        for values in (errors.logits, errors.margin, base.margin)
    )
    place = {name: row for row, name in enumerate(stream.pair_ids)}
    flipped = stream.flipped[[place[name] for name in pair_ids]]
    score_gap, contradicted = (
        np.array([known.get(name, np.nan) for name in pair_ids], dtype=np.float64)
        for known in (opinions.score_gap, opinions.contradicted)
    )
    return Detection(pair_ids, flipped, metric, d, score_gap, confidence, margin, base_margin, contradicted)


def _judge(
    denoiser: Denoiser, averages: ParameterEma, stream: PairStream, config: ExperimentConfig, count: int
) -> tuple[list[str], PairErrors]:
    """The pairs, and their errors on the CPU, [draws · N]: first those of the first draw in the order of the pairs."""
    device, micro, pairs = denoiser.network.device, config.training.micro_batch, len(stream)
    total = config.training.detection_draws * pairs
    names: list[str] = []
    columns: list[Tensor] = []
    times: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, total, micro):
            batch = stream.batch(start, min(start + micro, total), device)
            names += batch.pair_ids
            times.append(batch.timesteps[: len(batch.pair_ids)])
            columns.append(torch.stack(_errors(denoiser, averages, batch, count, config.training.precision)))
    # Every epoch has an order of its own; all are brought into that of the first.
    first = names[:pairs]
    places = {(position // pairs, name): position for position, name in enumerate(names)}
    order = torch.tensor([places[draw, name] for draw in range(total // pairs) for name in first])
    winner, loser, ref_winner, ref_loser, *others = torch.cat(columns, dim=1).float().cpu()[:, order]
    averaged = tuple(zip(others[::2], others[1::2], strict=True))
    timesteps = torch.cat(times).cpu()[order]
    return first, PairErrors(winner, loser, ref_winner, ref_loser, averaged, timesteps=timesteps)


def _confidence_and_stability(errors: PairErrors, settings: Any, draws: int) -> tuple[Tensor, Tensor]:
    """Both factors of u, with the scales over all judged pairs.

    Args:
        errors: of all draws.
        settings: the section ``loss``, with the fields of every loss; which ones there are is not known here.
        draws: of each pair. Of several, each bin of the timestep has its scale, unless there are to be none.
    """
    normalizer = settings.adaptive_normalizer
    if draws > 1 and normalizer != "none":
        normalizer = TIMESTEP
    elif normalizer == "micro_batch":
        # The published scale is of a training's micro-batch; here all judged pairs are one step.
        normalizer = "step"
    settings = replace(settings, adaptive_normalizer=normalizer)
    statistics = step_statistics(errors, settings)
    if normalizer == TIMESTEP:
        by_bin = bin_scales(bin_sums(annotators(errors), errors.timesteps))
        statistics = torch.cat([statistics, by_bin.flatten()])
    return confidence_and_stability(replace(errors, statistics=statistics), settings)


def _in_units_of_the_bin(values: Tensor, timesteps: Tensor | None) -> Tensor:
    """Values [P] over their root mean square in the bin of their timestep; zero where all of a bin are zero."""
    assert timesteps is not None
    scale = bin_scales(bin_sums(values[None], timesteps))[0]
    return values / scale[bins(timesteps)].clamp_min(torch.finfo(torch.float32).tiny)


def _errors(denoiser: Denoiser, averages: ParameterEma, batch: PairBatch, count: int, precision: str) -> list[Tensor]:
    """Winner and loser errors of the model, the reference and ``count`` averages, [B] each, in this order."""
    errors = [*model_errors(denoiser, batch, precision), *reference_errors(denoiser, batch, precision)]
    for index in range(count):
        with averages.swapped(index):
            errors += model_errors(denoiser, batch, precision)
    return errors
