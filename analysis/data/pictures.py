"""The images of a sweep: for each cell those of its first training seed, in its finished ``generate`` stage."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from analysis.data.sweep import artefact, split_order

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.data.sweep import SweepFolder

_SHARDS = "images-*.parquet"


def image_folders(runs: Path, sweep: SweepFolder) -> list[tuple[str, int | None, Path | None]]:
    """(cell, seed, folder of its images or None), base models first."""
    bases = {each.name for each in sweep.replicates if each.role == "base"}
    names = sorted(sweep.cell_names(), key=lambda name: name not in bases)
    first = ((name, sweep.of_cell(name)[0]) for name in names)
    return [(name, each.seed, artefact(runs, "generate", each.stages.get("generate"))) for name, each in first]


def choose_prompts(folder: Path, most: int) -> tuple[str, list[tuple[str, str]]]:
    """The split that comes first, and at most ``most`` of its prompts as (id, caption), chosen by a hash of the id."""
    captions: dict[str, dict[str, str]] = {}
    for shard in sorted(folder.glob(_SHARDS)):
        table = pq.ParquetFile(shard).read(columns=["prompt_id", "split", "caption"])
        for row in zip(*(table[name].to_pylist() for name in ("prompt_id", "split", "caption")), strict=True):
            captions.setdefault(row[1], {})[row[0]] = row[2]
    split = min(captions, key=split_order)
    chosen = sorted(captions[split], key=lambda prompt: hashlib.sha256(prompt.encode()).digest())[:most]
    return split, [(prompt, captions[split][prompt]) for prompt in chosen]


def read_pictures(folder: Path, prompts: set[str]) -> dict[str, bytes]:
    """The image with the lowest index of each prompt; only the row groups that hold one are read."""
    # Images are large: look for the wanted rows in the small columns first.
    best: dict[str, tuple[int, Path, int, int]] = {}  # prompt -> (image index, shard, row group, row)
    for shard in sorted(folder.glob(_SHARDS)):
        file = pq.ParquetFile(shard)
        for group in range(file.num_row_groups):
            keys = file.read_row_group(group, columns=["prompt_id", "image_index"])
            for row, (prompt, index) in enumerate(zip(*(column.to_pylist() for column in keys.columns), strict=True)):
                if prompt in prompts and (prompt not in best or index < best[prompt][0]):
                    best[prompt] = (index, shard, group, row)
    pictures: dict[str, bytes] = {}
    for shard, group in sorted({(place[1], place[2]) for place in best.values()}):
        images = pq.ParquetFile(shard).read_row_group(group, columns=["image"])["image"]
        for prompt, (_, own_shard, own_group, row) in best.items():
            if (own_shard, own_group) == (shard, group):
                pictures[prompt] = images[row].as_py()
    return pictures
