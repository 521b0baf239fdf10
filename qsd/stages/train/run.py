"""Stage train: an adapter fine-tuned on the selected pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.adapters.card import write_card
from qsd.adapters.facts import adapter_facts
from qsd.adaptive.detector import find_flips
from qsd.device import prepare
from qsd.encoding.store import EncodedPairs
from qsd.files import read_table, texts, write_json
from qsd.losses import REGISTRY
from qsd.models.adapter import save_adapter
from qsd.models.denoiser import load_denoiser
from qsd.training.loop import Trainer
from qsd.training.metrics import OF_PAIRS, read_metrics
from qsd.training.offpolicy.batches import PairStream
from qsd.training.offpolicy.validation import held_out
from qsd.training.processes import join

if TYPE_CHECKING:
    from qsd.adaptive.detector import Detection
    from qsd.config.schema import ExperimentConfig
    from qsd.models.process import DiffusionProcess
    from qsd.runtime import StageContext

LAST_STEPS = 20
"""The summary averages over so many steps at the end."""


def run(context: StageContext) -> None:
    """Write the adapter with its model card, ``metrics.jsonl``, ``summary.json``, and what finds planted flips.

    Raises:
        UserError: nothing to train on, a LoRA target without layers, or a loss that is not finite.
        Interrupted: it was asked to stop; it continues from the step that it has reached.
    """
    import torch

    config = context.config
    processes, place = join(prepare(config.device, config.threads))
    device = torch.device(place)
    denoiser = load_denoiser(config.model.path, device, config.training.precision)
    stream = open_stream(context, denoiser.process)
    others = open_held_out(context, denoiser.process)
    trainer = Trainer(config, denoiser, stream, others, processes, context.reference_errors)
    if processes.main:
        print(_convention(config), flush=True)
    trainer.run(context.output, context.state, context.report, context.stopping, context.attempt)
    if processes.main:
        found = find_flips(context, trainer)
        with trainer.saved():
            _write(context, trainer, found)
    processes.wait()


def _write(context: StageContext, trainer: Trainer, found: Detection | None) -> None:
    config, denoiser = context.config, trainer.denoiser
    summary, folder = _summary(context, trainer), context.output / "adapter"
    if found is not None:
        summary["detector"] = found.summary()
    facts = adapter_facts(config, context.inputs, denoiser.family.pipeline)
    save_adapter(folder, denoiser.network, config.lora, denoiser.family, facts.metadata())
    write_card(folder, facts, summary)
    write_json(context.output / "summary.json", summary)


def open_stream(context: StageContext, process: DiffusionProcess) -> PairStream:
    """The selected pairs of a run, with their weights; ``process`` draws their times."""
    selected = read_table(context.inputs["select"] / "selected.parquet")
    return PairStream(
        EncodedPairs(context.inputs["encode"]),
        [str(pair_id) for pair_id in selected["pair_id"].to_pylist()],
        selected["weight"].to_numpy(),
        context.config.training,
        process,
        context.config.seed,
        selected["flipped"].to_numpy() if "flipped" in selected.column_names else None,
        selected["opens"].to_numpy() if "opens" in selected.column_names else None,
    )


def open_held_out(context: StageContext, process: DiffusionProcess) -> PairStream | None:
    """The pairs to validate on, if any are asked for: encoded ones that were not selected."""
    if not context.config.training.validation_pairs:
        return None
    selected = texts(read_table(context.inputs["select"] / "selected.parquet", ["pair_id"])["pair_id"])
    return held_out(EncodedPairs(context.inputs["encode"]), selected, context.config.training, process)


def _effective_beta(config: ExperimentConfig) -> float | None:
    """What multiplies a difference of errors inside the loss; None for a loss that has no such factor."""
    factor = REGISTRY.get(config.loss.name).factor
    return factor(config.loss) if factor else None


def _beta(config: ExperimentConfig) -> float | None:
    """β, for a loss that reads it."""
    return config.loss.beta if "beta" in REGISTRY.get(config.loss.name).fields else None


def _convention(config: ExperimentConfig) -> str:
    factor, beta = _effective_beta(config), _beta(config)
    if factor is None:
        return f"loss {config.loss.name}: no beta"
    stated = "" if beta is None else f"beta {beta:g} in the convention of the Diffusion-DPO code (beta/2), so "
    return (
        f"loss {config.loss.name}: {stated}the difference of mean errors per element is multiplied by {factor:g} "
        "(docs/losses.md)"
    )


def _summary(context: StageContext, trainer: Trainer) -> dict[str, Any]:
    config, stream = trainer.config, trainer.stream
    last = read_metrics(context.output)[-LAST_STEPS:]
    pairs_seen = config.training.steps * config.training.pairs_per_step
    return {
        "loss": config.loss.name,
        "beta": _beta(config),
        "effective_beta": _effective_beta(config),
        "budget": config.training.budget,
        "steps": config.training.steps,
        "pairs": len(stream),
        "pairs_without_encoding": stream.missing,
        "pairs_seen": pairs_seen,
        "epochs": pairs_seen / len(stream),
        "trainable_parameters": sum(parameter.numel() for parameter in trainer.parameters.values()),
        "last_steps": len(last),
        "mean_of_last_steps": {
            name: None if last[0][name] is None else sum(row[name] for row in last) / len(last) for name in OF_PAIRS
        },
    }
