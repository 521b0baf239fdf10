"""``qsd benchmark``: published benchmarks of text-to-image models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qsd.errors import UserError

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Published benchmarks of text-to-image models.")

_NONE = "none"


@app.callback()
def benchmark() -> None:
    """Published benchmarks of text-to-image models."""


@app.command()
def hps(
    experiment: Annotated[
        Path, typer.Option("--experiment", "-e", help="YAML with the model, generation and reward.weights.")
    ],
    prompts: Annotated[Path, typer.Option(help="Folder with <style>.json, one list of prompts per style.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the result; continued if it was interrupted.")],
    adapter: Annotated[
        str, typer.Option(help="Result of qsd train, or an adapter's folder; none: base model.")
    ] = _NONE,
    version: Annotated[str | None, typer.Option(help="v2.0 or v2.1 (if no --scorer is given).")] = None,
    scorer: Annotated[str | None, typer.Option(help="Another reward model in cosines, instead of a version.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Score <style>/00000.jpg, … of this folder; generate nothing.")
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="Result to compare with, prompt by prompt.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="dotted.name=value replaces a field of the experiment.")
    ] = None,
) -> None:
    """HPS v2: one image per prompt, scored x 100, mean and spread of ten groups per style."""
    from qsd.config.assignments import assignments
    from qsd.config.find import find_experiment
    from qsd.config.load import build, load_flat, override
    from qsd.evaluation import hps_paired, hps_published
    from qsd.evaluation.hps_measure import measure
    from qsd.evaluation.hps_pictures import SET_BY_BENCHMARK, Files, Generated
    from qsd.progress import ShownProgress

    scorer_name = _scorer(version, scorer)
    overrides = assignments(settings or [])
    for name in SET_BY_BENCHMARK:
        if name in overrides:
            raise UserError(f"--set {name}: the benchmark sets it itself")
    flat = override(load_flat(find_experiment(str(experiment))), overrides)
    adapter_folder = None if adapter == _NONE else Path(adapter)
    if images is not None and adapter_folder is not None:
        raise UserError("--images and --adapter: existing images need no adapter; give only one of the two")
    pictures = Files(images, prompts) if images is not None else Generated(flat, prompts, adapter_folder)
    with ShownProgress("benchmark") as report:
        result = measure(build(flat), pictures, scorer_name, out, report)
    label = _label(images or adapter_folder or Path(flat["model.path"]))
    for line in hps_published.lines(label, result, _version(scorer_name)):
        print(line)
    if baseline is not None:
        for line in hps_paired.lines(hps_paired.differences(out, baseline, scorer_name), baseline):
            print(line)
    print(f"benchmark: {out / scorer_name}")


def _scorer(version: str | None, scorer: str | None) -> str:
    """The reward model that scores.

    Raises:
        UserError: both are given, or an unknown version.
    """
    from qsd.evaluation.hps_measure import VERSIONS

    if scorer is not None:
        if version is not None:
            raise UserError("--version and --scorer: a version has its own reward model; give only one of the two")
        return scorer
    if version is not None and version not in VERSIONS:
        raise UserError(f"--version {version}: it must be {' or '.join(VERSIONS)}")
    return VERSIONS[version or "v2.1"]


def _version(scorer: str) -> str:
    """The version whose published rows are comparable with this scorer, or the empty text."""
    from qsd.evaluation.hps_measure import VERSIONS

    return next((version for version, name in VERSIONS.items() if name == scorer), "")


def _label(path: Path) -> str:
    """The folder's name, or for an adapter the name of its training; cut to the width of its column."""
    return (path.parent.name if path.name == "adapter" else path.name)[:24]
