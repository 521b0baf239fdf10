"""The model card of an adapter: ``README.md`` beside it, with the front matter that the hub and diffusers read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.adapters.licences import licence_of
from qsd.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from qsd.adapters.facts import AdapterFacts

FILE = "README.md"
_OF_LOSS = {"dpo": "diffusion-dpo", "sft": "fine-tuning"}
_LABELS = {
    "human": "People said which image of each pair is better.",
    "simulated": "**The preference labels are simulated**: a program, and no person, said which image is better.",
}


def write_card(folder: Path, facts: AdapterFacts, summary: Mapping[str, Any]) -> Path:
    """Write ``folder/README.md`` from the facts and the train stage's summary; equal ones give equal bytes."""
    lines = [*_front_matter(facts), *_about(facts), *_use(facts), *_training(facts, summary), *_data(facts, summary)]
    lines += ["", "## Licence", "", licence_of(facts.base_model).note]
    path = folder / FILE
    write_bytes(path, ("\n".join(lines) + "\n").encode())
    return path


def _front_matter(facts: AdapterFacts) -> Iterator[str]:
    """Names and tags of the hub; without a hub name there is no base model to link to."""
    yield "---"
    if facts.hub_name:
        yield f"base_model: {facts.hub_name}"
        yield "base_model_relation: adapter"
    yield "library_name: diffusers"
    yield "pipeline_tag: text-to-image"
    yield f"license: {licence_of(facts.base_model).identifier}"
    yield "tags:"
    loss = facts.settings.get("loss.name", "dpo")
    simulated = ["simulated-preferences"] if facts.labels == "simulated" else []
    for tag in ("lora", "text-to-image", _OF_LOSS.get(loss, f"{loss}-loss"), *simulated):
        yield f"- {tag}"
    yield "---"


def _about(facts: AdapterFacts) -> Iterator[str]:
    yield ""
    yield "# A LoRA adapter from one cell of a preference ablation"
    yield ""
    base = f"`{facts.base_model}`" if facts.hub_name else "a local diffusers folder (digest below)"
    yield (
        f"It changes the UNet of {base}, a `{facts.pipeline}`. It is one of many that differ in what a sweep varies, "
        "made to be compared, not chosen as the best. How good its images are is said by the sweep's table, not here."
    )


def _use(facts: AdapterFacts) -> Iterator[str]:
    name, _, revision = facts.base_model.partition("@")
    base = name if facts.hub_name else "FOLDER OF THE BASE MODEL"
    pinned = f', revision="{revision}"' if facts.hub_name and revision else ""
    yield from ("", "## Use", "", "```python")
    yield f"from diffusers import {facts.pipeline}"
    yield ""
    yield f'pipeline = {facts.pipeline}.from_pretrained("{base}"{pinned})'
    yield 'pipeline.load_lora_weights("FOLDER OF THIS FILE")'
    yield "```"


def _training(facts: AdapterFacts, summary: Mapping[str, Any]) -> Iterator[str]:
    """The settings that differ from the project's defaults, and what came of them."""
    yield from ("", "## Training", "", "| setting | value |", "|---|---|")
    for name, value in facts.settings.items():
        yield f"| `{name}` | {_shown(value)} |"
    yield f"| `seed` | {facts.seed} |"
    yield ""
    yield "All other settings are the defaults of the project. What came of them:"
    yield ""
    yield f"- loss `{summary['loss']}`" + (
        f", beta {summary['beta']:g}, which is {summary['effective_beta']:g} times the difference of mean errors"
        if summary["beta"] is not None
        else ""
    )
    yield f"- {summary['steps']} steps, {summary['pairs_seen']} pairs seen, {summary['epochs']:.3g} epochs"
    yield f"- {summary['trainable_parameters']} trained numbers"
    accuracy = summary["mean_of_last_steps"].get("implicit_accuracy")
    if accuracy is not None:
        yield f"- implicit accuracy on the training pairs of the last {summary['last_steps']} steps: {accuracy:.3f}"


def _data(facts: AdapterFacts, summary: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## Data", "")
    flipped = facts.settings.get("data.flip_fraction", 0)
    planted = f" {flipped:g} % of the labels were then flipped on purpose." if flipped else ""
    yield f"{summary['pairs']} preference pairs. {_LABELS[facts.labels]}{planted}"
    yield ""
    if not facts.hub_name:
        yield f"- digest of the base model: `{facts.base_model.partition(':')[2]}`"
    yield f"- digest of all pairs: `{facts.data_digest}`"
    yield f"- digest of the selected pairs: `{facts.selection_digest}`"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
