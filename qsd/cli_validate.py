"""``qsd validate``: experiments that test what a method assumes."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads annotations)
from typing import Annotated

import typer

from qsd.errors import UserError

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Test what a method assumes.")


@app.callback()
def validate() -> None:
    """Test what a method assumes."""


@app.command("step-reward")
def step_reward(
    experiment: Annotated[
        Path, typer.Option("--experiment", "-e", help="YAML with the model, the reward and the method's sampling.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the result; continued if it was interrupted.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="dotted.name=value replaces a field of the experiment.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the result that is in --out.")] = False,
    states: Annotated[int, typer.Option(help="States x_t for each number of steps left; an even number.")] = 100,
    rollouts: Annotated[int, typer.Option(help="Rollouts from each state, for the expected final reward.")] = 100,
    steps_left: Annotated[
        str, typer.Option(help="Sampler steps from the states to the image, separated by commas.")
    ] = "12,8,4,1",
) -> None:
    """The reward of the predicted clean image (TailorPO's Eq. 12) against the expected final reward."""
    from qsd.config.assignments import assignments
    from qsd.config.find import find_experiment
    from qsd.config.load import build, load_flat, override
    from qsd.evaluation.step_reward import PAGE, Extent, run
    from qsd.progress import ShownProgress

    extent = Extent(states, rollouts, _numbers(steps_left))
    flat = override(load_flat(find_experiment(str(experiment))), assignments(settings or []))
    with ShownProgress("step-reward") as report:
        run(build(flat), extent, out, report, overwrite)
    print((out / PAGE).read_text(encoding="utf-8"))
    print(f"step-reward: {out}")


def _numbers(text: str) -> tuple[int, ...]:
    """Whole numbers, the largest first.

    Raises:
        UserError: something else.
    """
    try:
        return tuple(sorted((int(word) for word in text.split(",")), reverse=True))
    except ValueError:
        raise UserError(f"--steps-left {text}: give whole numbers, separated by commas, such as 12,8,4,1") from None
