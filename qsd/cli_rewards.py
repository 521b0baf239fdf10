"""``qsd train-reward`` and ``qsd accuracy``: reward models trained on choices, and tested on ranked groups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qsd.errors import UserError

_WEIGHTS = Path("experiments/emoji/assets/rewards")


def train_reward(
    recipe: Annotated[Path, typer.Option("--recipe", "-r", help="YAML with the recipe of the training.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the result; continued if it was interrupted.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="dotted.name=value replaces a field of the recipe.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the result that is in --out.")] = False,
) -> None:
    """Train a reward model on choices, and test it. A choice is between two images."""
    from qsd.progress import ShownProgress
    from qsd.reward_training.report import summary_lines
    from qsd.reward_training.train import train_reward as train

    with ShownProgress("train-reward") as report:
        summary = train(recipe, settings or [], out, report, overwrite)
    for line in summary_lines(summary):
        print(line)
    print(f"train-reward: {out}")


def accuracy(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Reward models, as `qsd rewards` lists them.")],
    data: Annotated[Path, typer.Option("--data", "-d", help="Ranked groups of images, or preference pairs.")],
    weights: Annotated[Path, typer.Option(help="Folder with one folder per reward model.")] = _WEIGHTS,
    protocol: Annotated[
        str | None, typer.Option(help="hps_v2, image_reward or pairs; by default that of the layout.")
    ] = None,
    reader: Annotated[str | None, typer.Option(help="Layout of preference pairs; detected if not given.")] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Protocol pairs: |p0 - p1| up to this value predicts a tie.")
    ] = 0.0,
    validation: Annotated[
        Path | None, typer.Option(help="Protocol pairs: data set on which the threshold is chosen.")
    ] = None,
    max_refused: Annotated[float, typer.Option(min=0, max=1, help="Largest accepted share of damaged groups.")] = 0.02,
    batch: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads.")] = 1,
) -> None:
    """Test how well reward models agree with human rankings. The protocol is the published one of the data's layout."""
    from qsd.device import prepare
    from qsd.registry import suggest
    from qsd.reward_training.evaluate import PROTOCOLS, best_threshold, result, scored
    from qsd.reward_training.groups import protocol_of, read_groups
    from qsd.reward_training.report import accuracy_lines
    from qsd.rewards.opening import open_reward

    if protocol is not None and protocol not in PROTOCOLS:
        raise UserError(f"--protocol {protocol}: unknown{suggest(protocol, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}")
    protocol_name = protocol or ("pairs" if reader else protocol_of(data))
    if protocol_name != "pairs" and (threshold or validation):
        raise UserError(f"--threshold and --validation belong to protocol pairs, not to {protocol_name}")
    place = prepare(device, threads)
    results = {}
    for name in names:
        scorer = open_reward(name, str(weights), place)
        if validation is not None:
            validation_scores = scored(
                scorer, read_groups(validation, reader, threads), batch, max_refused, str(validation)
            )
            threshold = best_threshold(scorer, *validation_scores)
            print(f"{name}: threshold {threshold:g} is best on {validation}")
        scores, labels = scored(scorer, read_groups(data, reader, threads), batch, max_refused, str(data))
        results[name] = result(scorer, scores, labels, protocol_name, threshold)
    for line in accuracy_lines(results, labels, protocol_name):
        print(line)


def export_images(
    place: Annotated[Path, typer.Argument(metavar="PATH", help="Preference pairs, or a result of the generate stage.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for images/ and requests.csv; continued.")],
    reader: Annotated[str | None, typer.Option(help="Layout of preference pairs; detected if not given.")] = None,
) -> None:
    """Write images and captions for a judge that runs elsewhere. Its scores are the reward model `precomputed`."""
    from qsd.progress import ShownProgress
    from qsd.rewards.export import TABLE
    from qsd.rewards.export import export_images as export

    with ShownProgress("export-images") as report:
        images, items = export(place, reader, out, report)
    print(f"{images:,} images, {items:,} to score: {out / TABLE}")
