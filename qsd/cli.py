"""The command ``qsd``: single stages, reward models, data sets. Heavy modules are imported inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qsd import cli_benchmark, cli_data, cli_rewards, cli_validate, completion, console
from qsd.errors import UserError
from qsd.stages.spec import STAGES
from qsd.version import Version  # noqa: TC001 (typer reads annotations)

app = typer.Typer(
    help="Score, select, train and evaluate preference data, one stage at a time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich alone takes 0.2 s to import
)


@app.callback()
def _options(version: Version = False) -> None:
    """Options that stand before a command."""


_EXPERIMENT = typer.Option(
    "--experiment",
    "-e",
    help="What is held fixed: a name (experiments/NAME.yaml) or a path.",
    autocompletion=completion.experiments,
)
_OUTPUT = typer.Option("--out", "-o", help="Folder for the result; continued if it was interrupted.")
Experiment = Annotated[Path, _EXPERIMENT]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="dotted.name=value replaces a field.", autocompletion=completion.fields),
]
Inputs = Annotated[list[str] | None, typer.Option("--input", "-i", help="name=FOLDER, the result of an earlier stage.")]
Output = Annotated[Path, _OUTPUT]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete the result, finished or not, that is in --out.")]


def _run(
    stage: str,
    experiment: Path,
    settings: list[str] | None,
    inputs: list[str] | None,
    output: Path,
    overwrite: bool,
) -> None:
    from qsd.progress import ShownProgress
    from qsd.stages.run_single import run_stage

    with ShownProgress(stage) as report:
        run_stage(stage, experiment, settings or [], inputs or [], output, report, overwrite)
    print(f"{stage}: {output}")


app.add_typer(cli_data.app, name="data")
app.add_typer(cli_benchmark.app, name="benchmark")
app.add_typer(cli_validate.app, name="validate")


@cli_data.app.callback(invoke_without_command=True, subcommand_metavar="[describe PATH | validate PATH]")
def data(
    context: typer.Context,
    experiment: Annotated[Path | None, _EXPERIMENT] = None,
    out: Annotated[Path | None, _OUTPUT] = None,
    settings: Settings = None,
    inputs: Inputs = None,
    overwrite: Overwrite = False,
) -> None:
    """Read preference pairs; describe or validate a data set. Damaged rows are refused."""
    stage_options = [experiment, out, settings or None, inputs or None, overwrite or None]
    if context.invoked_subcommand is not None:
        if any(value is not None for value in stage_options):
            raise UserError(f"qsd data {context.invoked_subcommand}: the options of the stage do not apply here")
    elif experiment is None or out is None:
        raise UserError("qsd data needs --experiment and --out; or qsd data describe PATH, qsd data validate PATH")
    else:
        _run(cli_data.STAGE, experiment, settings, inputs, out, overwrite)


def _add_stage(name: str, help_text: str) -> None:
    def command(
        experiment: Experiment,
        out: Output,
        settings: Settings = None,
        inputs: Inputs = None,
        overwrite: Overwrite = False,
    ) -> None:
        _run(name, experiment, settings, inputs, out, overwrite)

    app.command(name, help=help_text)(command)


for _name, _spec in STAGES.items():
    if _name != cli_data.STAGE:  # has commands of its own
        _add_stage(_name, _spec.help)


@app.command()
def rewards(
    weights: Annotated[Path, typer.Option(help="Folder with one folder per reward model.")] = Path(
        "experiments/emoji/assets/rewards"
    ),
) -> None:
    """List the reward models."""
    from qsd.rewards.listing import listing

    print(f"{'name':<20}{'unit':<12}{'input':<8}{'role':<9}revision")
    for line in listing(weights):
        size = f"{line.size} px" if line.size else "?" if line.size is None else "any"
        role = "selects" if line.selects else "judges" if line.is_judge else "symptom"
        print(f"{line.name:<20}{line.unit:<12}{size:<8}{role:<9}{line.revision or f'no weights in {weights}'}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A reward model, as `qsd rewards` lists it.")],
    weights: Annotated[Path, typer.Option(help="Folder with one folder per reward model.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
) -> None:
    """Download the published weights of a reward model."""
    from qsd.rewards.fetch import fetch as fetch_weights

    for path in fetch_weights(name, weights, revision):
        print(path)


@app.command()
def show(
    experiment: Experiment,
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write.")],
    settings: Settings = None,
    inputs: Inputs = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=500, help="Pairs of each kind.")] = 12,
) -> None:
    """Draw the pairs with the highest and the lowest Q. A contact sheet with images, caption and scores."""
    from qsd.stages.show_pairs import show_pairs

    print(show_pairs(experiment, settings or [], inputs or [], out, count))


app.command("train-reward")(cli_rewards.train_reward)
app.command()(cli_rewards.accuracy)
app.command("export-images")(cli_rewards.export_images)


def main() -> None:
    """The console command."""
    console.run(app)


if __name__ == "__main__":
    main()
