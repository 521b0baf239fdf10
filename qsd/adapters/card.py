"""The model card of an adapter: ``README.md`` beside it, with the front matter that the hub and diffusers read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qsd.adapters.facts import AdapterFacts
from qsd.adapters.licences import licence_of
from qsd.adapters.locate import KOHYA_FILE
from qsd.files import write_bytes

FILE = "README.md"


def write_card(folder: Path, facts: AdapterFacts) -> Path:
    """Write ``folder/README.md``; equal facts give equal bytes."""
    lines = [*_front_matter(facts), *_about(facts), *_use(facts), *_training(facts), *_data(facts)]
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
    for tag in ("lora", "text-to-image", *facts.training.tags):
        yield f"- {tag}"
    yield "---"


def _about(facts: AdapterFacts) -> Iterator[str]:
    yield ""
    yield "# A LoRA adapter from one cell of a preference ablation"
    yield ""
    base = f"`{facts.base_model}`" if facts.hub_name else "a local diffusers folder (digest below)"
    yield (
        f"It changes the denoising network of {base}, a `{facts.pipeline}`. It is one of many adapters that differ in "
        "what a sweep varies, made to be compared, not chosen as the best. How good its images are is in the sweep's "
        "table."
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
    if facts.kohya_readers:
        yield ""
        yield f"`{KOHYA_FILE}` is the same adapter for {facts.kohya_readers}."


def _training(facts: AdapterFacts) -> Iterator[str]:
    """The settings that differ from the project's defaults, and what came of them."""
    yield from ("", "## Training", "", "| setting | value |", "|---|---|")
    for name, value in facts.settings.items():
        yield f"| `{name}` | {_formatted(value)} |"
    yield f"| `seed` | {facts.seed} |"
    yield ""
    yield "All other settings are the defaults of the project. What came of them:"
    yield ""
    for result in facts.training.results:
        yield f"- {result}"


def _data(facts: AdapterFacts) -> Iterator[str]:
    yield from ("", "## Data", "", facts.training.data, "")
    if not facts.hub_name:
        yield f"- digest of the base model: `{facts.base_model.partition(':')[2]}`"
    for name, digest in facts.training.digests.items():
        yield f"- digest of {name}: `{digest}`"


def _formatted(value: Any) -> str:
    """A setting's value in Markdown."""
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value).replace("<", "&lt;").replace("|", "&#124;")
