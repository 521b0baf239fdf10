"""``python -m experiments.emoji.build``: build the emoji world, or the missing parts of it."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from experiments.emoji.build import (
    aesthetic,
    benchmark,
    blip,
    clip,
    fine_tuned,
    flow,
    icons,
    manifest,
    preferences,
    prompts,
    samples,
    text_to_image,
    tokenizer,
    vae,
)
from experiments.emoji.build.world import ASSETS, World

SEPARATE = {"flow_model": flow.build, "judge_emoji_b": clip.build_second_judge}
"""What reads only icons and included files."""


def main() -> None:
    """Run all steps in order; each is skipped if its result exists, and continues where it was interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, default=ASSETS, help="folder of the included files")
    parser.add_argument("--work", type=Path, default=Path("runs/emoji-world"), help="intermediate and resumable files")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SEPARATE,
        help="build these parts alone, which need the icons and the included files",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    world = World(arguments.work, arguments.assets)
    icons.build(world)
    if arguments.only:
        for name in arguments.only:
            SEPARATE[name](world)
        manifest.build(world)
        return
    prompts.build(world)
    benchmark.build(world)
    words = tokenizer.build(world)
    autoencoder = vae.train(world)
    clip.build(world, clip.CLIP_EMOJI)
    clip.build(world, clip.CLIP_EMOJI_B)
    clip.build(world, clip.JUDGE_EMOJI, autoencoder)
    aesthetic.build(world)
    text_to_image.build(world, autoencoder, words)
    preferences.build_pairs(world, autoencoder, words)
    prompts.build_training(world)
    preferences.build_choices(world, autoencoder, words)
    fine_tuned.build(world)
    blip.build(world)
    for build in SEPARATE.values():
        build(world)
    manifest.build(world)
    samples.sample_sheet(world, world.work / "samples.png")
    for (split, judge), share in samples.recognised(world, guidance_scale=2.0).items():
        print(f"samples: {judge} finds the caption of {share:.0%} of the {split} prompts among all captions")
    print(f"samples to look at: {world.work / 'samples.png'}")


if __name__ == "__main__":
    main()
