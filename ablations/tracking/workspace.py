"""A saved view of one sweep in W&B: the baseline pinned, differences per judge, images, curves and the report.

It names the same keys that the runs have. wandb-workspaces builds its specification without a network; saving it needs
the service.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from ablations.tracking import run_names
from ablations.tracking.curves import AXIS
from ablations.tracking.pictures import KEY as PICTURES
from ablations.tracking.report_run import TABLE
from ablations.tracking.shareable import shareable
from qsd.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

_CURVES = ("train/loss", "train/implicit_accuracy", "validation/implicit_accuracy", "train/grad_norm")
_COLUMNS = ("difference", "low", "high", "p_adjusted", "marked", "mean")
_MOST_RUNS = 200
"""W&B draws 10 runs per panel if nothing is said, so cells would be missing."""


def sweep_workspace(sweep_folder: Path, project: str, entity: str) -> Any:
    """The view of a sweep, a ``wandb_workspaces.workspaces.Workspace`` that is not saved yet.

    Args:
        sweep_folder: contains ``cells.json``.
        project: the W&B project of the runs.
        entity: the W&B user or team that owns it; pinned runs are named with it.

    Raises:
        UserError: wandb-workspaces is not installed, or the sweep has no ``cells.json``.
    """
    try:
        import wandb_workspaces.workspaces as workspaces
        from wandb_workspaces import expr
    except ImportError as error:
        raise UserError(f"a view needs wandb-workspaces ({error}); 'scripts/setup.sh' installs it") from None
    content = _content(sweep_folder)
    sweep, experiment = content["sweep"], content["experiment"]
    group = run_names.name(f"{sweep}@{experiment}")
    judges = _judges(content)
    baseline = next(cell for cell in content["cells"] if cell["is_baseline"])
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=group,
        sections=_sections(content, judges),
        settings=workspaces.WorkspaceSettings(x_axis=AXIS, max_runs=_MOST_RUNS),
        runset_settings=workspaces.RunsetSettings(
            filters=[expr.Metric("Group") == group],
            order=[expr.Ordering(expr.Summary(f"{_cell_key(*judges[0])}/difference"), ascending=False)],
            pinned_columns=_columns(content, judges[0]),
            baseline_run=run_names.run_id(sweep, experiment, baseline["cell_id"], baseline["seed"]),
        ),
    )


def specification(workspace: Any) -> dict[str, Any]:
    """What saving the view would send to W&B, as plain values."""
    model = workspace._to_model()  # the package has no public name for it
    view = {"entity": model.entity, "project": model.project, "name": model.display_name}
    return {**view, "spec": json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))}


def save(workspace: Any) -> str:
    """Save the view in W&B as a new one; its address.

    Raises:
        UserError: the service refused it or could not be reached.
    """
    try:
        return str(workspace.save().url)
    except Exception as error:  # the package raises what its transport raises
        reason = shareable(" ".join(str(error).split())[:300])
        raise UserError(f"the view was not saved in W&B: {reason or type(error).__name__}") from None


def _content(sweep_folder: Path) -> dict[str, Any]:
    path = sweep_folder / "cells.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; 'ablate run' writes it")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _judges(content: dict[str, Any]) -> list[tuple[str, str]]:
    """(split, scorer) of every table, the primary one first."""
    primary = (content["primary"]["split"], content["primary"]["scorer"])
    pairs = [(split, scorer) for cell in content["cells"] for split in cell["splits"] for scorer in cell["scorers"]]
    return list(dict.fromkeys([primary, *pairs]))


def _cell_key(split: str, scorer: str) -> str:
    return f"cell/{split}/{scorer}"


def _columns(content: dict[str, Any], judge: tuple[str, str]) -> list[str]:
    """Cell, seed, and what varies; then what the primary judge says of it."""
    varies = dict.fromkeys(name for cell in content["cells"] for name in cell["axes"])
    axes = [f"config:axes.value.{name}" for name in varies]
    return [
        "run:displayName",
        *axes,
        "config:seed.value",
        *(f"summary:{_cell_key(*judge)}/{name}" for name in _COLUMNS),
    ]


def _sections(content: dict[str, Any], judges: list[tuple[str, str]]) -> list[Any]:
    import wandb_workspaces.workspaces as workspaces
    from wandb_workspaces.reports.v2 import interface as panels

    text = (
        f"**{shareable(content['question'])}**\n\nBaseline: `{shareable(content['baseline'])}` (pinned). "
        "Differences and intervals are those of the sweep's table; the run *report* has the page and the verdict."
    )
    answer: list[Any] = [panels.MarkdownPanel(markdown=text), panels.WeavePanelSummaryTable(table_name=TABLE)]
    images = panels.MediaBrowser(title="the same prompts in every cell", media_keys=[PICTURES], num_columns=4)
    gallery = panels.MediaBrowser(title="gallery of the report", media_keys=["gallery", "effects"])
    curves: list[Any] = [
        panels.LinePlot(
            title=name,
            x=AXIS,
            y=[name],
            groupby=panels.Config("name"),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        )
        for name in _CURVES
    ]
    seeds = len({cell["seed"] for cell in content["cells"] if cell["seed"] is not None})
    time = _bars("Seconds of a cell's own stages", ["time/own_seconds"], "minmax")
    return [
        workspaces.Section(name="Answer", panels=answer, is_open=True, pinned=True),
        *(
            workspaces.Section(
                name=f"{scorer}, {split}",
                panels=_of_judge(split, scorer, seeds, looks=bool(content.get("looks")) and not number),
                is_open=not number,
            )
            for number, (split, scorer) in enumerate(judges)
        ),
        workspaces.Section(name="Images", panels=[images, gallery], is_open=True),
        workspaces.Section(name="Training", panels=curves),
        workspaces.Section(name="Time", panels=[time]),
    ]


def _of_judge(split: str, scorer: str, seeds: int, looks: bool) -> list[Any]:
    """The panels of one table; ``looks``: its intervals are those of the looks at which cells stopped."""
    # With one training seed there is only the interval for these trained models.
    interval = "interval of its look" if looks else "95 % interval" if seeds > 1 else "95 % interval over prompts alone"
    ends = ("low", "high") if seeds > 1 else ("these_models_low", "these_models_high")
    scores, cell = f"scores/{split}/{scorer}", _cell_key(split, scorer)
    return [
        _bars(
            f"Difference to the baseline, with its {interval}",
            [f"{cell}/{name}" for name in (ends[0], "difference", ends[1])],
        ),
        _bars("Difference to the baseline, range over seeds", [f"{scores}/difference_to_baseline"], "minmax"),
        _bars("Mean score, range over seeds", [f"{scores}/mean"], "minmax"),
    ]


def _bars(title: str, metrics: list[Any], over_seeds: Literal["minmax", "none"] = "none") -> Any:
    """One bar per cell and metric: the mean over its seeds."""
    from wandb_workspaces.reports.v2 import interface as panels

    return panels.BarPlot(
        title=title,
        metrics=metrics,
        groupby=panels.Config("name"),
        groupby_aggfunc="mean",
        groupby_rangefunc=over_seeds,
        max_bars_to_show=_MOST_RUNS,
        max_runs_to_show=_MOST_RUNS,
    )
