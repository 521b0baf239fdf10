"""How well flipped labels can be found: the minority metric, the model's own disagreement, and the scorer's.

After the training, every pair (or the first ``MOST_PAIRS`` in the order of a hash of the id) meets the model once more,
with noise that no training draws, unflipped in the picture and with its caption. Three detectors, each larger for a
suspect pair, are compared with the planted flips by the area under the ROC curve: 1/2 is chance.

- ``metric``: u of ``qsd.losses._annotators``, for losses that keep moving averages; scales over all these pairs.
- ``minus_d``: -d, how much less the model favours the labelled winner than the reference does.
- ``minus_score_gap``: -(ψ_w - ψ_l), how much worse the reward model scores the labelled winner.

The model was trained on these very labels, flipped ones among them, and what it has learned by heart, no detector built
on it finds: a second or third epoch lowers the first two numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qsd.adaptive import DETECTOR_FILE as FILE
from qsd.draws import uniforms

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from qsd.config.schema import ExperimentConfig
    from qsd.encoding.store import EncodedPairs
    from qsd.models.denoiser import Denoiser
    from qsd.models.process import DiffusionProcess
    from qsd.runtime import StageContext
    from qsd.training.ema import AdapterEma
    from qsd.training.loop import Trainer
    from qsd.training.offpolicy.batches import PairBatch, PairStream

MOST_PAIRS = 1024
"""With 10 % of flips among them, the area has a standard error of about 0.03."""
DETECTORS = ("metric", "minus_d", "minus_score_gap")
_SEED = 0
_PURPOSE = "detector"


@dataclass(frozen=True)
class Detection:
    """What the detectors say of N pairs; NaN where a detector has nothing to say."""

    pair_ids: list[str]
    flipped: npt.NDArray[np.bool_]
    metric: npt.NDArray[np.float64]
    d: npt.NDArray[np.float64]
    score_gap: npt.NDArray[np.float64]

    def areas(self) -> dict[str, float | None]:
        """Area under the ROC curve of each of ``DETECTORS``; None where it is not defined."""
        values = zip(DETECTORS, (self.metric, -self.d, -self.score_gap), strict=True)
        return {name: auroc(value, self.flipped) for name, value in values}

    def summary(self) -> dict[str, Any]:
        """Counts and areas."""
        return {"pairs": len(self.pair_ids), "flipped": int(self.flipped.sum()), "auroc": self.areas()}

    def write(self, folder: Path) -> None:
        """``detector.parquet``: pair_id, flipped, metric, d, score_gap; null where there is no number."""
        import pyarrow as pa

        from qsd.files import write_table

        numbers = {name: pa.array(getattr(self, name), from_pandas=True) for name in ("metric", "d", "score_gap")}
        columns = {"pair_id": pa.array(self.pair_ids), "flipped": pa.array(self.flipped), **numbers}
        write_table(folder / FILE, pa.table(columns))

    @classmethod
    def read(cls, folder: Path) -> Detection:
        """What ``write`` has written."""
        from qsd.files import read_table, texts

        table = read_table(folder / FILE)
        numbers = (table[name].to_numpy().astype(np.float64) for name in ("metric", "d", "score_gap"))
        return cls(texts(table["pair_id"]), table["flipped"].to_numpy(), *numbers)


def auroc(suspicion: npt.NDArray[np.float64], flipped: npt.NDArray[np.bool_]) -> float | None:
    """The chance that a flipped pair has a higher number than one that is not, ties counting half.

    Pairs whose number is NaN are left out; None when that leaves no flipped pair, or only flipped ones.
    """
    known = np.isfinite(suspicion)
    values, positive = suspicion[known], flipped[known]
    hits, misses = int(positive.sum()), int((~positive).sum())
    if hits == 0 or misses == 0:
        return None
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    ranks = mean_rank[place][positive].sum()
    return float((ranks - hits * (hits + 1) / 2) / (hits * misses))


def find_flips(context: StageContext, trainer: Trainer) -> Detection | None:
    """Judge the pairs of a finished training and write ``detector.parquet``.

    None where there is nothing to judge: no flips were planted and the loss has no metric of its own, or all labels
    were given anew (``data.relabel``).
    """
    from qsd.encoding.store import EncodedPairs
    from qsd.files import read_table, texts

    config = trainer.config
    if config.data.relabel != "none" or not (trainer.stream.flipped.any() or trainer.loss.averages):
        return None
    selected = read_table(context.inputs["select"] / "selected.parquet")
    found = selected["score_gap"].to_pylist() if "score_gap" in selected.column_names else [None] * len(selected)
    gaps = zip(texts(selected["pair_id"]), found, strict=True)
    encoded = EncodedPairs(context.inputs["encode"])
    stream = detection_stream(encoded, trainer.stream, config, trainer.denoiser.process)
    print(f"judging {len(stream)} pairs with new noise: are flipped labels found?", flush=True)
    known = {name: gap for name, gap in gaps if gap is not None}
    judged = detect(trainer.denoiser, trainer.averages, stream, config, known)
    judged.write(context.output)
    return judged


def detection_stream(
    encoded: EncodedPairs, trained: PairStream, config: ExperimentConfig, process: DiffusionProcess
) -> PairStream:
    """The pairs to judge, each once, under the labels that were trained on."""
    from qsd.training.offpolicy.batches import PairStream

    order = np.argsort(uniforms(trained.pair_ids, _SEED, _PURPOSE), kind="stable")[:MOST_PAIRS]
    plain = replace(config.training, flip=False, caption_dropout=0.0)
    pair_ids = [trained.pair_ids[place] for place in order]
    return PairStream(encoded, pair_ids, np.ones(len(order)), plain, process, _SEED, flipped=trained.flipped[order])


def detect(
    denoiser: Denoiser,
    averages: AdapterEma,
    stream: PairStream,
    config: ExperimentConfig,
    score_gaps: Mapping[str, float],
) -> Detection:
    """Judge every pair of the stream.

    Args:
        denoiser: the trained model, in the mode of training.
        averages: those that the loss has asked for come first; others are not looked at.
        stream: made by ``detection_stream``.
        config: sections loss and training.
        score_gaps: pair id -> ψ_w - ψ_l under the label that was trained on.
    """
    import torch

    from qsd.losses import REGISTRY, PairErrors
    from qsd.losses._annotators import minority, step_statistics

    loss = REGISTRY.get(config.loss.name)
    count = len(loss.averages(config.loss)) if loss.averages else 0
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
        settings: Any = config.loss
        if settings.adaptive_normalizer == "micro_batch":
            settings = replace(settings, adaptive_normalizer="step")
        errors = replace(errors, statistics=step_statistics(errors, settings))
        metric = minority(errors, settings).double().numpy()
    place = {name: row for row, name in enumerate(stream.pair_ids)}
    flipped = stream.flipped[[place[name] for name in pair_ids]]
    gaps = np.array([score_gaps.get(name, np.nan) for name in pair_ids], dtype=np.float64)
    return Detection(pair_ids, flipped, metric, errors.logits.double().numpy(), gaps)


def _errors(denoiser: Denoiser, averages: AdapterEma, batch: PairBatch, count: int, precision: str) -> list[Tensor]:
    """Winner and loser errors of the model, the reference and ``count`` averages, [B] each, in this order."""
    from qsd.training.offpolicy.denoising_errors import model_errors, reference_errors

    found = [*model_errors(denoiser, batch, precision), *reference_errors(denoiser, batch, precision)]
    for index in range(count):
        with averages.swapped(index):
            found += model_errors(denoiser, batch, precision)
    return found
