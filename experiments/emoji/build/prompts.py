"""Step: the prompts of evaluation (held-out combinations), validation (for choosing settings) and seen ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.emoji.build.world import SEED, World

SEEN = 156


def build(world: World) -> None:
    """Write ``prompts.csv``: prompt_id (``style/emoji``), caption, split, in an order drawn once."""
    target = world.assets / "prompts.csv"
    if target.exists():
        return
    icons = pd.read_parquet(world.icons, columns=["emoji", "style", "caption", "split"])
    rng = np.random.default_rng(SEED + 20)
    parts = [icons[icons["split"] == split] for split in ("evaluation", "validation")]
    seen = icons[icons["split"] == "train"]
    parts.append(seen.iloc[np.sort(rng.choice(len(seen), SEEN, replace=False))].assign(split="seen"))
    parts = [part.iloc[rng.permutation(len(part))] for part in parts]
    table = pd.concat(parts)
    table["prompt_id"] = table["style"] + "/" + table["emoji"]
    table[["prompt_id", "caption", "split"]].to_csv(target, index=False)
