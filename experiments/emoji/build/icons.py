"""Step 1: the icon sets from the npm registry, rendered on white, captioned and split.

Sets: fluent-emoji-flat (MIT, Microsoft), noto (Apache-2.0, Google), twemoji (CC-BY-4.0, Twitter and jdecked).
The packages are fetched by ``npm pack`` and checked against the SHA-256 below, so a rebuild starts from the
same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.progress import track

from experiments.emoji.build.captions import caption
from experiments.emoji.build.world import RESOLUTION, SEED, STYLES, World

PACKAGES = {
    "fluent-emoji-flat": ("1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"),
    "noto": ("1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    "twemoji": ("1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
}
HELD_OUT_FRACTION = 0.10
VALIDATION_SHARE = 1 / 3


def fetch(suffix: str, folder: Path) -> Path:
    """Download one icon package into ``folder`` (once) and check its digest."""
    version, digest = PACKAGES[suffix]
    archive = folder / f"iconify-json-{suffix}-{version}.tgz"
    if not archive.exists():
        command = ["npm", "pack", "--silent", f"@iconify-json/{suffix}@{version}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    actual = hashlib.sha256(archive.read_bytes()).hexdigest()
    if actual != digest:
        raise ValueError(f"{archive}: sha256 {actual}, expected {digest}; delete the file and run again")
    return archive


def read_set(archive: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Icons of a package (name -> SVG body and size) and their category."""
    with tarfile.open(archive) as tar:

        def member(name: str) -> dict[str, Any]:
            stream = tar.extractfile(f"package/{name}")
            assert stream is not None
            return dict(json.load(stream))

        icons, metadata = member("icons.json"), member("metadata.json")
    size = {"width": icons["width"], "height": icons["height"]}
    shown = {name: {**size, **icon} for name, icon in icons["icons"].items() if not icon.get("hidden")}
    category = {name: group for group, names in metadata["categories"].items() for name in names}
    return shown, category


def render(icon: dict[str, Any], resolution: int) -> Image.Image:
    """One icon on white, ``resolution`` x ``resolution`` RGB; drawn at four times the size, then reduced."""
    import resvg_py

    left, top, width, height = icon.get("left", 0), icon.get("top", 0), icon["width"], icon["height"]
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )
    large = 4 * resolution
    drawn = resvg_py.svg_to_bytes(svg_string=svg, width=large, height=large)
    rgba = Image.open(io.BytesIO(bytes(drawn))).convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB").resize((resolution, resolution), Image.Resampling.BOX)


def assign_splits(names: list[str], styles: list[str]) -> dict[tuple[str, str], str]:
    """Split of every (emoji, style): ``train``, ``validation`` or ``evaluation``.

    A tenth of all combinations is held out, at most one style per emoji, so every held-out prompt names an emoji
    that training has seen in two other styles. A third of the held-out prompts is for choosing settings.
    """
    rng = np.random.default_rng(SEED)
    count = round(HELD_OUT_FRACTION * len(names) * len(styles))
    chosen = rng.permutation(len(names))[:count]
    split = {(name, style): "train" for name in names for style in styles}
    for order, index in enumerate(chosen):
        style = styles[int(rng.integers(len(styles)))]
        split[names[index], style] = "validation" if order < VALIDATION_SHARE * count else "evaluation"
    return split


def build(world: World) -> None:
    """Write ``icons.parquet``, and ``captions.parquet`` without the images; does nothing if the first exists."""
    if world.icons.exists():
        return
    folder = world.scratch("npm")
    sets = {suffix: read_set(fetch(suffix, folder)) for suffix in STYLES}
    common = set.intersection(*(set(icons) for icons, _ in sets.values()))
    names = sorted(name for name in common if "skin-tone" not in name)
    split = assign_splits(names, list(STYLES.values()))
    rows: list[dict[str, Any]] = []
    for name in track(names, description="rendering icons"):
        for suffix, style in STYLES.items():
            icons, category = sets[suffix]
            stream = io.BytesIO()
            render(icons[name], RESOLUTION).save(stream, format="WEBP", lossless=True, method=6)
            rows.append(
                {
                    "emoji": name,
                    "style": style,
                    "caption": caption(name, style),
                    "category": category.get(name, ""),
                    "split": split[name, style],
                    "image": stream.getvalue(),
                }
            )
    world.icons.parent.mkdir(parents=True, exist_ok=True)
    temporary = world.icons.with_suffix(".tmp")
    pq.write_table(pa.Table.from_pylist(rows), temporary, compression="none", row_group_size=512)
    world.assets.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).drop(columns="image").to_parquet(world.captions, compression="zstd", index=False)
    temporary.replace(world.icons)
