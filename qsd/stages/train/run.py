"""Stage train: an adapter, fine-tuned by a method."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import torch

from qsd.adapters.card import write_card
from qsd.adapters.facts import AdapterFacts, name_of_base
from qsd.config.check import schema_fields
from qsd.config.fields import Kind
from qsd.config.schema import USUAL_MICRO_BATCH, ExperimentConfig
from qsd.device import prepare
from qsd.errors import UserError
from qsd.files import write_json
from qsd.models.adapter import save_adapter
from qsd.models.denoiser import load_denoiser
from qsd.models.local_checks import match_guidance
from qsd.runtime import StageContext
from qsd.stages.spec import STAGES, stage_inputs
from qsd.training.engine import Engine, Recipe
from qsd.training.method import AdapterMethod
from qsd.training.methods import REGISTRY
from qsd.training.processes import join


def run(context: StageContext) -> None:
    """Write the adapter with its model card, ``metrics.jsonl``, ``summary.json``, and what the method adds.

    Raises:
        UserError: an input is missing, nothing to train on, a LoRA target without layers, or divergence.
        Interrupted: it was asked to stop; it continues from the step that it has reached.
    """
    config = context.config
    spec = REGISTRY.get(config.method.name)
    missing = [name for name in spec.inputs if name not in context.inputs]
    if missing:
        raise UserError(
            f"stage train: method {config.method.name} reads the stage {missing[0]}, which is not among the inputs"
        )
    processes, device = join(prepare(config.device, config.threads))
    model, precision = config.model, config.training.precision
    denoiser = load_denoiser(model.path, torch.device(device), precision, model.resolution)
    if spec.on_policy:
        # Planning says so too, but only of a model that is on its machine.
        match_guidance(denoiser.family, denoiser.network.config, model.path, config.method.guidance_scale)
        if not config.training.micro_batch:
            config = replace(config, training=replace(config.training, micro_batch=USUAL_MICRO_BATCH))
    if config.training.gradient_checkpointing:
        denoiser.use_checkpointing()
    module, _, name = spec.entry.partition(":")
    made = getattr(importlib.import_module(module), name)
    method: AdapterMethod = made(config, context.inputs, denoiser, processes, context.reference_errors)
    method.keep_files(context.output)
    engine = Engine(method, Recipe.of_adapter(method.config.training))
    engine.run(context.output, context.state, context.report, context.stopping, context.attempt)
    if processes.main:
        summary, settings = method.summary(context.output), cell_settings(config)
        facts = AdapterFacts(
            base_model=name_of_base(config.model.path),
            pipeline=denoiser.family.pipeline,
            settings=settings,
            seed=config.seed,
            training=method.facts(settings, summary),
            kohya_readers="" if config.lora.dora else denoiser.family.kohya_readers,
        )
        folder = context.output / "adapter"
        with method.averages.result():
            save_adapter(folder, denoiser.network, config.lora, denoiser.family, facts.metadata())
        write_card(folder, facts)
        write_json(context.output / "summary.json", summary)
    # The other processes stay until the results are written: a launcher ends all when one has ended.
    processes.wait()


def cell_settings(config: ExperimentConfig) -> dict[str, Any]:
    """What differs from the defaults among the settings that training and the stages before it read, sorted by name.

    Content behind paths has digests elsewhere; the seed is a fact of its own.
    """
    values = {name: _value(config, name) for name in schema_fields()}
    settings: dict[str, Any] = {}
    waiting = ["train"]
    while waiting:
        stage = waiting.pop()
        waiting.extend(stage_inputs(stage, values))
        for name, value in STAGES[stage].settings(values).items():
            info = schema_fields()[name]
            if info.kind is Kind.MEANING and value != info.default and name != "seed":
                settings[name] = value
    return dict(sorted(settings.items()))


def _value(config: ExperimentConfig, dotted: str) -> Any:
    """A field by its dotted name."""
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name)
    return value
