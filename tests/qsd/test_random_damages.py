"""What people bring, damaged at random: refused in one line, or the result is what the files say, under its own key.

``DAMAGES=100 make test ARGS=tests/qsd/test_random_damages.py`` damages more often than a usual test run.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open

from qsd.adapters.locate import find_adapter
from qsd.adapters.reading import Layers, read_adapter
from qsd.config.digest import digest, location_digest
from qsd.config.load import build, defaults, override
from qsd.data.images import PairImages
from qsd.data.opening import open_source
from qsd.data.pairs import image_uid
from qsd.data.prompts import Prompt
from qsd.errors import UserError
from qsd.generation.generator import Generator, Wanted
from qsd.models.denoiser import load_denoiser
from qsd.models.encoders import load_text_encoder
from qsd.models.families.stable_diffusion import FAMILY
from qsd.models.folder_checks import check_model, check_texts
from qsd.models.merge import adaptable_layers
from qsd.models.pipeline import load_pipeline
from qsd.models.whole import check_whole
from qsd.stages.data import run as data
from qsd.stages.data import spec as data_spec
from qsd.stages.spec import stage_meaning
from tests.qsd import tiny_pipeline, tiny_world
from tests.qsd.adapters import layouts
from tests.qsd.data import list_damages
from tests.qsd.data.list_damages import LISTS, pairs_in
from tests.qsd.models.damages import another_number, flip_a_bit, outcome, read_damaged, rewrite

if TYPE_CHECKING:
    from tests.qsd.models.damages import Kinds

DAMAGES = int(os.environ.get("DAMAGES", "8"))
CPU = torch.device("cpu")
CAPTIONS = ["a red apple", "a cat"]
LAWFUL = {"bit", "number", "another value"}
"""Damages after which a file can still be valid, with another content."""
CHANGES: dict[str, Kinds] = {"": {"bit": flip_a_bit}, ".safetensors": {"number": another_number}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without damage."""
    return tiny_pipeline.save(tmp_path_factory.mktemp("whole") / "model")


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def drawn(model: Path) -> dict[str, str]:
    """Digests of all that stages take from a model: weights, settings of the noise, conditioning, and a picture."""
    for check in (check_texts, check_model):
        check.cache_clear()
    check_texts(str(model))
    check_model(str(model))
    check_whole(str(model))
    load_denoiser(str(model), CPU)
    settings = tiny_world.config(
        model, model, model__path=str(model), model__resolution=tiny_pipeline.RESOLUTION, generation__steps=2
    )
    pipeline = load_pipeline(str(model), CPU)
    (picture,) = Generator(pipeline, settings, CPU).images([Wanted(Prompt("p", "evaluation", CAPTIONS[0]), 0)])
    content = {"picture": picture.tobytes(), "noise": repr(sorted(pipeline.scheduler.config.items())).encode()}
    for part in ("unet", "vae", "text_encoder"):
        state = getattr(pipeline, part).state_dict()
        content[part] = b"".join(name.encode() + tensor.numpy().tobytes() for name, tensor in state.items())
    texts = load_text_encoder(str(model), CPU).conditioning(CAPTIONS)
    content["captions"] = b"".join(name.encode() + texts[name].numpy().tobytes() for name in sorted(texts))
    return {name: hashlib.sha256(value).hexdigest() for name, value in content.items()}


def key_of(model: Path) -> str:
    digest.cache_clear()
    return location_digest(str(model))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(DAMAGES))
def test_a_damaged_model_is_refused_or_has_a_key_of_its_own(whole: Path, tmp_path: Path, seed: int) -> None:
    model = Path(shutil.copytree(whole, tmp_path / "model"))
    damaged, done = read_damaged(model, seed, lambda: drawn(model), CHANGES)
    if damaged is None:
        return
    other = sorted(name for name, value in drawn(whole).items() if damaged[name] != value)
    print(f"{done}: {f'changed {other}' if other else 'nothing changed'}")
    assert not other or done.kind in LAWFUL, f"{done} changed {other}"
    assert not other or key_of(model) != key_of(whole), done


# ── adapters ─────────────────────────────────────────────────────────────────────────────────────────────────────────

DOWN_UP = {
    "diffusers": ("unet.{}.lora_A.weight", "unet.{}.lora_B.weight"),
    "PEFT": ("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight"),
    "kohya": ("lora_unet_{_}.lora_down.weight", "lora_unet_{_}.lora_up.weight"),
    "old": ("unet.{}.lora.down.weight", "unet.{}.lora.up.weight"),
}
"""Layout -> names of a layer's two tensors; {_} has underscores for dots."""


def named(pattern: str, layer: str) -> str:
    return pattern.format(layer, _=layer.replace(".", "_"))


def write_adapter(folder: Path, layout: str, halves: layouts.Halves) -> Path:
    tensors, metadata = layouts.diffusers(halves)
    if layout == "diffusers":
        return layouts.write(folder, tensors, metadata)
    down, up = DOWN_UP[layout]
    tensors = {named(down, name): halves[name][0] for name in halves}
    tensors |= {named(up, name): halves[name][1] for name in halves}
    if layout != "PEFT":
        start = down.partition(".lora")[0]
        tensors |= {f"{named(start, name)}.alpha": torch.tensor(layouts.ALPHA) for name in halves}
        return layouts.write(folder, tensors, {"format": "pt"})
    settings = {"peft_type": "LORA", "r": layouts.RANK, "lora_alpha": layouts.ALPHA, "target_modules": ["to_q"]}
    layouts.write(folder, tensors, name="adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def by_definition(folder: Path, layout: str, halves: layouts.Halves) -> dict[str, torch.Tensor]:
    """What an adapter's only file adds, computed from its tensors; KeyError if one of them is of no layer."""
    (file,) = (path for path in folder.glob("[!.]*.safetensors") if path.is_file())
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name).double() for name in opened.keys()}  # noqa: SIM118 (no mapping)
        metadata = opened.metadata() or {}
    config = folder / "adapter_config.json"
    stated = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    settings = {name.removeprefix("unet."): value for name, value in stated.items()}
    settings |= json.loads(config.read_text()) if config.is_file() else {}
    added = {}
    for layer in halves:
        start = DOWN_UP[layout][0].partition(".lora")[0]
        down, up, alpha = (_taken(tensors, named(each, layer)) for each in (*DOWN_UP[layout], f"{start}.alpha"))
        if down is not None and up is not None:
            scale = float(alpha) / len(down) if alpha is not None else 1.0
            scale = settings["lora_alpha"] / settings["r"] if settings else scale
            added[layer] = scale * torch.einsum("or,r...->o...", up.flatten(1), down)
    assert not tensors, f"not used: {sorted(tensors)}"
    return added


def _taken(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor | None:
    """The tensor of a name, which may lack the network's before it."""
    return next((tensors.pop(one) for one in (name, name.removeprefix("unet.")) if one in tensors), None)


def change_halves(path: Path, chance: random.Random, last: int) -> None:
    """Another rank of one tensor, or of all of a layer."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        name = chance.choice(sorted(name for name in tensors if name.endswith("weight")))
        start = name.partition(".lora")[0]
        for other in [one for one in tensors if one == name or (last and one.startswith(f"{start}."))]:
            if other.endswith("weight"):
                is_down = "lora_A" in other or "down.weight" in other
                tensors[other] = tensors[other][:-1] if is_down else tensors[other][:, :-1]

    rewrite(path, change)


def without(part: str) -> Any:
    """All tensors whose names contain a text, or one of them, are gone."""

    def change(path: Path, chance: random.Random) -> None:
        def drop(tensors: dict[str, torch.Tensor]) -> None:
            named_so = sorted(name for name in tensors if part in name)
            for name in named_so if chance.random() < 0.5 else named_so[:1]:
                del tensors[name]

        rewrite(path, drop)

    return change


def replaced(old: str, new: str) -> Any:
    return lambda path, _: rewrite(
        path, lambda tensors: [tensors.update({name.replace(old, new, 1): tensors.pop(name)}) for name in list(tensors)]
    )


ADAPTER: dict[str, Kinds] = {
    **CHANGES,
    ".safetensors": {
        **CHANGES[".safetensors"],
        "rank of one half": lambda path, chance: change_halves(path, chance, 0),
        "rank of a layer": lambda path, chance: change_halves(path, chance, 1),
        "alpha gone": without("alpha"),
        "a layer gone": without("conv1"),
        "modules renamed": replaced("attn1", "attn7"),
        "of another network": replaced("unet", "transformer"),
        "of a text model": replaced("unet", "text_encoder"),
        "of no network": replaced("unet.", ""),
        "metadata gone": lambda path, _: rewrite(path, lambda _: None),
    },
}


@pytest.fixture(scope="module")
def halves() -> layouts.Halves:
    return layouts.random_halves(tiny_pipeline.pipeline().unet)


@pytest.fixture(scope="module")
def layers(whole: Path) -> Layers:
    return adaptable_layers(FAMILY, str(whole))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(DAMAGES))
def test_a_damaged_adapter_is_refused_or_adds_what_its_file_says(
    layers: Layers, halves: layouts.Halves, tmp_path: Path, seed: int
) -> None:
    layout = sorted(DOWN_UP)[seed % len(DOWN_UP)]
    folder = write_adapter(tmp_path / "adapter", layout, halves)
    damaged, done = read_damaged(folder, seed, lambda: read_adapter(find_adapter(folder), layers), ADAPTER)
    if damaged is None:
        return
    print(f"{layout}, {done}: {len(damaged)} of {len(halves)} layers are read")
    added = by_definition(folder, layout, halves)
    assert sorted(damaged) == sorted(added), done
    for name, layer in damaged.items():
        torch.testing.assert_close(layer.delta().double(), added[name], rtol=1e-4, atol=1e-5, msg=f"{done}: {name}")


# ── lists of pairs ───────────────────────────────────────────────────────────────────────────────────────────────────


def pairs_of(path: Path, reader: str, output: Path) -> tuple[str, list[dict[str, Any]]]:
    """Key and pairs of the data stage; every row of the list is a pair or a problem."""
    digest.cache_clear()
    data_spec._images_digest.cache_clear()
    values = {"data.path": str(path), "data.reader": reader, "data.max_rejected_fraction": 0.6}
    flat = override(defaults(), {**tiny_world.REQUIRED, **values, "reward.weights": "weights"})
    key = json.dumps(stage_meaning("data", flat), sort_keys=True)
    data.run(tiny_world.context(build(flat), output))
    pairs = pq.read_table(output / "pairs.parquet").to_pylist()
    problems = json.loads((output / "problems.json").read_text())
    summary = json.loads((output / "summary.json").read_text())
    assert summary["rows"] == len(pairs) + sum(entry["count"] for entry in problems.values())
    assert all(name.isprintable() for entry in problems.values() for name in entry["ids"])
    return key, pairs


def content_of(pairs: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [tuple(pair[name] for name in ("caption", "winner_uid", "loser_uid", "annotator_id")) for pair in pairs]


def assert_old_images(path: Path, reader: str, output: Path) -> None:
    """Where the key stayed, later stages must not take other images for those that the data stage read."""
    pairs = pq.read_table(output / "pairs.parquet")
    images = PairImages(open_source(tiny_world.config(path, path, data__reader=reader).data), pairs)
    for row in pairs.to_pylist():
        for side, uid in enumerate((row["winner_uid"], row["loser_uid"])):
            with suppress(UserError):
                assert image_uid(images.bytes_of(2 * row["source_row"] + side)) == uid


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(DAMAGES))
def test_a_damaged_list_is_refused_or_its_pairs_are_what_it_says(tmp_path: Path, seed: int) -> None:
    reader, write = LISTS[sorted(LISTS)[seed % len(LISTS)]]
    folder = tmp_path / "list"
    folder.mkdir()
    path = write(folder, list_damages.some_pairs())
    key, before = pairs_of(path, reader, tmp_path / "before")
    more: dict[str, Kinds] = {"": {"bit": flip_a_bit}, path.suffix: list_damages.ROWS}
    file = path if random.Random(seed).random() < 0.7 else None
    result, done = read_damaged(folder, seed, lambda: pairs_of(path, reader, tmp_path / "after"), more, file)
    if result is None:
        if path.is_file():
            outcome(folder, done, lambda: assert_old_images(path, reader, tmp_path / "before"))
        return
    other, pairs = result
    print(f"{reader}, {done}: {len(pairs)} of {len(before)} pairs, {'another' if other != key else 'the same'} key")
    says = pairs_in(path)
    assert says is None or {row[:3] for row in content_of(pairs)} <= says, done
    if content_of(pairs) != content_of(before) and other == key:
        assert_old_images(path, reader, tmp_path / "before")
