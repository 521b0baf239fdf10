"""Sweeps that were never run: cells.json and artefacts drawn from known effects."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qsd import run_store
from qsd.evaluation.categories import FILE as CATEGORIES
from qsd.evaluation.embedding_measures import DIVERSITY, UNIT, measures_of
from qsd.evaluation.embeddings import Embeddings, write_embeddings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

STYLES = ("fluent", "noto", "twemoji")
THINGS = ("a croissant", "a red heart", "a panda", "a face with tears of joy", "a snowman without snow", "a lighthouse")


@dataclass
class Cell:
    """A cell with a known effect on every score, in the scorer's unit."""

    name: str
    effect: float = 0.0
    role: str = "grid"
    axes: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int | None, ...] = (0, 1, 2)
    reward_model: str | None = "clip_emoji"
    absent: tuple[int | None, ...] = ()
    diverged: tuple[int | None, ...] = ()
    failed: tuple[int | None, ...] = ()
    base: str = "base model"
    kept: int = 20
    effects: dict[str, float] = field(default_factory=dict)
    """Effect on single scorers, in place of ``effect``."""
    reference: bool = True
    """The loss reads the reference model."""
    drift: float = 0.3
    """Length of what training adds to the embedding of an image, whose own length is 1."""


@dataclass
class World:
    """What the synthetic sweep looks like."""

    cells: list[Cell]
    baseline: str
    scorers: dict[str, tuple[str, float]] = field(
        default_factory=lambda: {"clip_emoji": ("cosine", 0.05), "aesthetic": ("points", 0.5), "judge": ("logit", 1.0)}
    )
    prompts: dict[str, int] = field(default_factory=lambda: {"evaluation": 40, "seen": 24})
    images: int = 2
    steps: int = 30
    pixels: int = 64
    pictures: bool = True
    seed_spread: float = 0.05
    pairs: int = 100
    primary: str = "judge"
    embedded: bool = False
    scored: bool = False
    """There are scores of the training pairs: those of winners rise with the pair's number, those of losers fall."""
    categories: tuple[str, ...] = ()
    """Of the first prompts of the first split; empty: none."""
    category_effects: dict[str, float] = field(default_factory=dict)
    """Category -> what prompts of it add to the effect of every trained cell but the baseline."""


def key_of(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


_MEANINGS: dict[str, dict[str, Any]] = {}
"""Key of a stage -> its meaning."""


def stage_key(stage: str, *parts: object) -> str:
    """The key of a stage that means ``parts``, as its record must have it."""
    meaning = {"of": [str(part) for part in parts]}
    key = run_store.key_of(stage, 1, meaning, {})
    _MEANINGS[key] = meaning
    return key


def usual_world(**changes: Any) -> World:
    """A baseline, two grid cells, a control and the base model."""
    cells = [
        Cell("metric=product", 0.30, axes={"quality.metric": "product"}),
        Cell("metric=difference", 0.22, axes={"quality.metric": "difference"}),
        Cell("metric=winner_only", -0.10, axes={"quality.metric": "winner_only"}),
        Cell("strategy=random", 0.05, role="control", axes={"selection.strategy": "random"}, reward_model=None),
        Cell("base model", 0.0, role="base", seeds=(None,), reward_model=None),
    ]
    return World(**({"cells": cells, "baseline": "metric=product"} | changes))


def seal(folder: Path, stage: str, key: str) -> None:
    """Write the record that makes a folder a finished artefact."""
    files = {
        str(path.relative_to(folder)): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "record.json"
    }
    record = {"stage": stage, "version": 1, "key": key, "meaning": _MEANINGS[key], "inputs": {}, "files": files}
    (folder / "record.json").write_text(json.dumps(record, sort_keys=True, indent=1))


def write_sweep(runs: Path, world: World, name: str = "metric_formula", experiment: str = "emoji") -> Path:
    """Write all artefacts and cells.json; returns the sweep's folder."""
    entries = []
    for cell in world.cells:
        for seed in cell.seeds:
            keys = stage_keys(cell, seed)
            entries.append(
                {
                    "name": cell.name,
                    "role": cell.role,
                    "is_baseline": cell.name == world.baseline,
                    "axes": cell.axes,
                    "seed": seed,
                    "cell_id": key_of(cell.name, seed)[:10],
                    "base": cell.name if cell.role == "base" else cell.base,
                    "scorers": [*world.scorers, *_measures(world, cell)],
                    "splits": list(world.prompts),
                    "conflicts": {cell.reward_model: ["selected the training pairs"]} if cell.reward_model else {},
                    "stages": keys,
                    **_state(cell, seed),
                }
            )
            if seed in (*cell.absent, *cell.diverged, *cell.failed):
                continue
            write_evaluate(runs, keys["evaluate"], world, cell, seed)
            if world.pictures:
                write_generate(runs, keys["generate"], world, cell, seed)
            if "train" in keys:
                if world.scored and "score" in keys:
                    write_score(runs, keys["score"], world)
                write_select(runs, keys["select"], world, cell, seed or 0)
                write_train(runs, keys["train"], world.steps, seed or 0, cell)
    folder = runs / "sweeps" / f"{name}@{experiment}"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "sweep": name,
        "experiment": experiment,
        "question": "Does the product form of Q matter, or is any score gap enough?",
        "labels": "simulated",
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "baseline": world.baseline,
        "primary": {"scorer": world.primary, "split": next(iter(world.prompts)), "stated": True},
        "cells": entries,
    }
    (folder / "cells.json").write_text(json.dumps(content, indent=1))
    return folder


def _measures(world: World, cell: Cell) -> tuple[str, ...]:
    return measures_of("clip_emoji" if world.embedded else None, "none" if cell.role == "base" else "trained")


def _state(cell: Cell, seed: int | None) -> dict[str, str | None]:
    if seed in cell.diverged:
        return {"state": "diverged", "reason": "training diverged: loss is nan at step 12"}
    if seed in cell.failed:
        return {"state": "failed", "reason": "train failed: out of memory"}
    return {"state": "unfinished" if seed in cell.absent else "finished", "reason": None}


def _column(value: str, count: int) -> pa.Array:
    """A column of one text, dictionary-encoded as the stage evaluate writes it."""
    return pa.array([value] * count).dictionary_encode()


def stage_keys(cell: Cell, seed: int | None) -> dict[str, str]:
    own = {stage: stage_key(stage, cell.name, seed) for stage in ("generate", "evaluate")}
    if cell.role == "base":
        return own
    shared = {"data": stage_key("data")} | ({"score": stage_key("score")} if cell.reward_model else {})
    by_seed = seed if cell.reward_model is None else None
    shared["select"] = stage_key("select", cell.name, by_seed)
    return shared | {"train": stage_key("train", cell.name, seed)} | own


def prompt_table(world: World) -> list[tuple[str, str, str]]:
    """(prompt id, split, caption), in the order of generation."""
    rows = []
    for split, count in world.prompts.items():
        for number in range(count):
            caption = f"{THINGS[number % len(THINGS)]} {number}, {STYLES[number // 6 % 3]} style"
            rows.append((key_of(split, number)[:12], split, caption))
    return rows


def write_evaluate(runs: Path, key: str, world: World, cell: Cell, seed: int | None) -> Path:
    """Scores: a prompt's own level, noise shared by all cells, noise of the cell, and effect and seed in units."""
    prompts = prompt_table(world)
    shape = (len(prompts), world.images)
    own = np.random.default_rng(int(key_of("own", cell.name, seed)[:8], 16))
    shared = np.random.default_rng(7)
    level = shared.normal(0, 1, (len(prompts), 1)) + shared.normal(0, 0.5, shape)
    spread = world.seed_spread * own.normal() if seed is not None else 0
    about = pa.table(
        {
            "prompt_id": [p for p, _, _ in prompts for _ in range(world.images)],
            "split": [s for _, s, _ in prompts for _ in range(world.images)],
            "caption": [c for _, _, c in prompts for _ in range(world.images)],
            "image_index": pa.array(list(range(world.images)) * len(prompts), pa.int32()),
        }
    )
    tables = []
    for scorer, (unit, scale) in world.scorers.items():
        shift = cell.effects.get(scorer, cell.effect) + spread
        score = scale * (5 + level + shift + _of_category(world, cell, len(prompts)) + own.normal(0, 0.4, shape))
        tables.append(_scored(about, scorer, unit, score))
    folder = runs / "artefacts" / "evaluate" / key
    folder.mkdir(parents=True, exist_ok=True)
    named = {prompt: name for (prompt, _, _), name in zip(prompts, world.categories, strict=False) if name}
    if named:
        (folder / CATEGORIES).write_text(json.dumps(named))
    if world.embedded:
        embeddings = Embeddings(about, _vectors(cell, seed, about.num_rows))
        write_embeddings(folder, embeddings)
        tables.append(_scored(about, DIVERSITY, UNIT, embeddings.diversity()))
    pq.write_table(pa.concat_tables(tables).unify_dictionaries(), folder / "scores.parquet")
    seal(folder, "evaluate", key)
    return folder


def _of_category(world: World, cell: Cell, prompts: int) -> NDArray[np.float64]:
    """What prompts [prompts, 1] add to the effect of a cell by their categories."""
    effects = np.zeros((prompts, 1))
    if cell.role != "base" and cell.name != world.baseline:
        effects[: len(world.categories), 0] = [world.category_effects.get(name, 0.0) for name in world.categories]
    return effects


def _scored(about: pa.Table, scorer: str, unit: str, score: NDArray[Any]) -> pa.Table:
    columns = {"scorer": scorer, "revision": f"{scorer}-r1", "unit": unit}
    for name, value in columns.items():
        about = about.append_column(name, _column(value, score.size))
    return about.append_column("score", pa.array(score.ravel(), pa.float32()))


def _vectors(cell: Cell, seed: int | None, count: int) -> NDArray[np.float32]:
    """Embeddings [count, 8]: those of the base model that the cell is compared with, and what its training adds."""
    vectors = _directions(key_of("base vectors"), count)
    if cell.role != "base":
        vectors = vectors + cell.drift * _directions(key_of("drift", cell.name, seed), count)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _directions(key: str, count: int) -> NDArray[np.float32]:
    normal = np.random.default_rng(int(key[:8], 16)).normal(size=(count, 8)).astype(np.float32)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def write_generate(runs: Path, key: str, world: World, cell: Cell, seed: int | None) -> Path:
    """Pictures: a coloured disc whose size follows the prompt and whose hue follows the cell."""
    from PIL import Image

    rows: dict[str, list[Any]] = {name: [] for name in ("prompt_id", "split", "caption", "image_index", "image")}
    side = np.linspace(-1, 1, world.pixels)
    radius = np.hypot(side[:, None], side[None, :])
    colour = np.random.default_rng(int(key_of("hue", cell.name, seed)[:8], 16)).integers(40, 220, 3)
    for number, (prompt, split, caption) in enumerate(prompt_table(world)):
        for index in range(world.images):
            disc = radius < 0.25 + 0.6 * ((number + index) % 7) / 7
            pixels = np.where(disc[..., None], colour, 255).astype(np.uint8)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "WEBP", lossless=True, method=0)
            for name, value in zip(rows, (prompt, split, caption, index, stream.getvalue()), strict=True):
                rows[name].append(value)
    folder = runs / "artefacts" / "generate" / key
    folder.mkdir(parents=True, exist_ok=True)
    half = len(rows["prompt_id"]) // 2
    for shard, part in enumerate((slice(0, half), slice(half, None))):
        pq.write_table(pa.table({k: v[part] for k, v in rows.items()}), folder / f"images-{shard:05d}.parquet")
    seal(folder, "generate", key)
    return folder


def metrics_row(step: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng([seed, step])
    gain = 0.002 * step
    return {
        "step": step,
        "loss": float(np.log(2) - gain + 0.01 * rng.normal()),
        "winner_error": 0.5 - gain,
        "loser_error": 0.6 + gain,
        "ref_winner_error": 0.5,
        "ref_loser_error": 0.6,
        "implicit_accuracy": min(1.0, 0.5 + gain),
        "logit_mean": gain,
        "learning_rate": 1e-4,
        "grad_norm": 1.0,
    }


def write_score(runs: Path, key: str, world: World) -> Path:
    folder = runs / "artefacts" / "score" / key
    folder.mkdir(parents=True, exist_ok=True)
    rising = np.arange(world.pairs) / world.pairs
    table = {
        "pair_id": [f"pair {number}" for number in range(world.pairs)],
        "winner_score": pa.array(rising, pa.float32()),
        "loser_score": pa.array(1 - rising, pa.float32()),
        "scorer": _column("clip_emoji", world.pairs),
    }
    pq.write_table(pa.table(table), folder / "scores.parquet")
    seal(folder, "score", key)
    return folder


def write_select(runs: Path, key: str, world: World, cell: Cell, seed: int) -> Path:
    """Scored cells keep a window of the pairs that begins at their place in the sweep; random ones any, by seed."""
    order = np.arange(world.pairs) if cell.reward_model else np.random.default_rng(seed).permutation(world.pairs)
    begin = 5 * world.cells.index(cell) if cell.reward_model else 0
    kept = order[begin : begin + cell.kept]
    folder = runs / "artefacts" / "select" / key
    folder.mkdir(parents=True, exist_ok=True)
    table = {"pair_id": [f"pair {number}" for number in kept], "weight": np.ones(len(kept))}
    pq.write_table(pa.table(table), folder / "selected.parquet")
    styles = {
        name: {"kept": int((kept % 3 == place).sum()), "of": -(-(world.pairs - place) // 3)}
        for place, name in enumerate((*STYLES[:2], "line art"))
    }
    scored: dict[str, Any] = {"contradicted": 0.125, "contradicted_of": 0.25} if cell.reward_model else {}
    if world.scored and cell.reward_model:
        percents = (0, 5, 25, 50, 75, 95, 100)
        scored["quality_percentiles"] = {str(percent): 0.5 + percent / 200 for percent in percents}
        scored["quality_percentiles_of"] = {str(percent): percent / 100 for percent in percents}
    summary = {"kept": len(kept), "of": world.pairs, "unique_captions": len(kept) // 2, "unique_images": 2 * len(kept)}
    (folder / "summary.json").write_text(json.dumps({**summary, **scored, "styles": styles}))
    seal(folder, "select", key)
    return folder


def write_train(runs: Path, key: str, steps: int, seed: int, cell: Cell | None = None) -> Path:
    folder = runs / "artefacts" / "train" / key
    folder.mkdir(parents=True, exist_ok=True)
    epochs = steps * 4 / (cell.kept if cell else 20)
    summary = {"budget": "steps", "steps": steps, "epochs": epochs, "pairs_seen": 4 * steps}
    reference = cell is None or cell.reference
    summary["loss"] = "dpo" if reference else "orpo"
    last = {"ref_winner_error": 0.5 if reference else None}
    (folder / "summary.json").write_text(json.dumps({**summary, "mean_of_last_steps": last}))
    lines = [json.dumps(metrics_row(step, seed)) for step in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    seal(folder, "train", key)
    return folder
