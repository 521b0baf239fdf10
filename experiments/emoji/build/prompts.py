"""Steps: the prompts of evaluation (held-out combinations), validation (for choosing settings), seen and training ones.

The training prompts are those of on-policy methods.
"""

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


def build_training(world: World) -> None:
    """Write ``training_prompts.csv``: the captions of the preference pairs, without those of ``prompts.csv``.

    So on-policy and off-policy methods train on the same prompts, and the split ``seen`` is new to the former.
    """
    target = world.assets / "training_prompts.csv"
    if target.exists():
        return
    used = set(pd.read_parquet(world.assets / "pairs.parquet", columns=["caption"])["caption"])
    used -= set(pd.read_csv(world.assets / "prompts.csv")["caption"])
    captions = pd.read_parquet(world.assets / "captions.parquet")
    table = captions[captions["caption"].isin(used)].assign(
        prompt_id=lambda rows: rows["style"] + "/" + rows["emoji"], split="training"
    )
    table[["prompt_id", "caption", "split"]].to_csv(target, index=False)
