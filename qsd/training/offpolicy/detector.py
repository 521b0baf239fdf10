"""How well flipped labels can be found after a training: the minority metric, disagreement of the model, of the scorer.

Every pair (or the first ``MOST_PAIRS`` in the order of a hash of the id) goes through the trained model once more, with
noise that no training draws, unflipped in the picture and with its caption. Three detectors, each larger for a suspect
pair, are compared with the flips that were injected (``detection.py``).

- ``metric``: u of ``qsd.losses._annotators``, for losses that have annotators; scales over all these pairs.
- ``minus_d``: -d, how much less the model favours the labelled winner than the reference does.
- ``minus_score_gap``: -(ψ_w - ψ_l), how much worse the reward model scores the labelled winner.

The model was trained on these very labels, flipped ones among them, and no detector built on it finds what it has
memorised: a second or third epoch lowers the first two numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qsd.config.schema import ExperimentConfig
from qsd.draws import uniforms
from qsd.encoding.store import EncodedPairs
from qsd.files import read_table, texts
from qsd.losses import REGISTRY, Loss, PairErrors
from qsd.losses._annotators import Settings as AnnotatorSettings
from qsd.losses._annotators import minority, step_statistics
from qsd.models.denoiser import Denoiser
from qsd.models.process import DiffusionProcess
from qsd.training.ema import ParameterEma
from qsd.training.offpolicy.batches import PairBatch, PairStream
from qsd.training.offpolicy.denoising_errors import model_errors, reference_errors
from qsd.training.offpolicy.detection import Detection

MOST_PAIRS = 1024
"""With 10 % of flips among them, the area has a standard error of about 0.03."""
_SEED = 0
_PURPOSE = "detector"


def score_gaps(select: Path) -> dict[str, float]:
    """Pair id -> ψ_w - ψ_l from the folder of a select stage, for the pairs that have one."""
    selected = read_table(select / "selected.parquet")
    if "score_gap" not in selected.column_names:
        return {}
    gaps = zip(texts(selected["pair_id"]), selected["score_gap"].to_pylist(), strict=True)
    return {pair_id: gap for pair_id, gap in gaps if gap is not None}


def has_annotators(loss: Loss[Any]) -> bool:
    """Whether a loss has the settings of the minority metric: other losses keep averages for another reason."""
    return issubclass(loss.settings, AnnotatorSettings)


def detection_stream(
    encoded: EncodedPairs, trained: PairStream, config: ExperimentConfig, process: DiffusionProcess
) -> PairStream:
    """The pairs to judge, each once, under the labels that were trained on."""
    order = np.argsort(uniforms(trained.pair_ids, _SEED, _PURPOSE), kind="stable")[:MOST_PAIRS]
    plain = replace(config.training, flip=False, caption_dropout=0.0)
    pair_ids = [trained.pair_ids[place] for place in order]
    return PairStream(encoded, pair_ids, np.ones(len(order)), plain, process, _SEED, flipped=trained.flipped[order])


def detect(
    denoiser: Denoiser,
    averages: ParameterEma,
    stream: PairStream,
    config: ExperimentConfig,
    gaps: Mapping[str, float],
) -> Detection:
    """Judge every pair of the stream.

    Args:
        denoiser: the trained model, in the mode of training.
        averages: those that the loss has asked for come first; others are not looked at.
        stream: made by ``detection_stream``.
        config: sections loss and training.
        gaps: pair id -> ψ_w - ψ_l under the label that was trained on.
    """
    loss = REGISTRY.get(config.loss.name)
    count = len(loss.averages(config.loss)) if loss.averages and has_annotators(loss) else 0
    device = denoiser.network.device
    micro, pairs = config.training.micro_batch, len(stream)
    pair_ids: list[str] = []
    columns: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, pairs, micro):
            batch = stream.batch(start, min(start + micro, pairs), device)
            pair_ids += batch.pair_ids
            columns.append(torch.stack(_errors(denoiser, averages, batch, count, config.training.precision)))
    rows = list(torch.cat(columns, dim=1).float().cpu())
    winner, loser, ref_winner, ref_loser, *others = rows
    averaged = tuple(zip(others[::2], others[1::2], strict=True))
    errors = PairErrors(winner, loser, ref_winner, ref_loser, averaged)
    metric = np.full(pairs, np.nan)
    if count:
        settings: Any = config.loss  # the fields of every loss; which ones there are is not known here
        if settings.adaptive_normalizer == "micro_batch":
            # The published scale is of a training's micro-batch; here all judged pairs are one step.
            settings = replace(settings, adaptive_normalizer="step")
        errors = replace(errors, statistics=step_statistics(errors, settings))
        metric = minority(errors, settings).double().numpy()
    place = {name: row for row, name in enumerate(stream.pair_ids)}
    flipped = stream.flipped[[place[name] for name in pair_ids]]
    score_gap = np.array([gaps.get(name, np.nan) for name in pair_ids], dtype=np.float64)
    return Detection(pair_ids, flipped, metric, errors.logits.double().numpy(), score_gap)


def _errors(denoiser: Denoiser, averages: ParameterEma, batch: PairBatch, count: int, precision: str) -> list[Tensor]:
    """Winner and loser errors of the model, the reference and ``count`` averages, [B] each, in this order."""
    errors = [*model_errors(denoiser, batch, precision), *reference_errors(denoiser, batch, precision)]
    for index in range(count):
        with averages.swapped(index):
            errors += model_errors(denoiser, batch, precision)
    return errors
