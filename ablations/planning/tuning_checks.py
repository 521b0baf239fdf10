"""Whether a sweep's ``tune`` fits its cells: an entry for each, different settings, a fair judge, other prompts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.grid.combinations import matches
from ablations.grid.spec import MOST_CELLS
from ablations.grid.values import show
from analysis.data.tuning import prompt_digest
from qsd.data.prompts import read_splits
from qsd.errors import UserError
from qsd.registry import suggest
from qsd.rewards.roles import is_judge
from qsd.stages.judges import conflicts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ablations.grid.expand import Cell
    from ablations.grid.keys import Keys
    from ablations.grid.samplers import Setting
    from ablations.grid.tune import Entry, Tune


def check_number(tune: Tune, cells: int) -> None:
    """At most as many trials as a plan may have cells."""
    trials = cells * tune.budget * len(tune.seeds)
    if trials > MOST_CELLS:
        raise UserError(
            f"{tune.places['budget']}: {cells:,} cells x {tune.budget:,} settings x {len(tune.seeds)} seeds are "
            f"{trials:,} trials; at most {MOST_CELLS:,} are planned"
        )


def entries_of(tune: Tune, cells: Mapping[str, Cell]) -> dict[str, Entry]:
    """Cell -> the entry of ``fields`` that holds for it."""
    chosen: dict[str, Entry] = {}
    for name, cell in cells.items():
        holding = [entry for entry in tune.entries if matches(cell.values, entry.when)]
        if not holding:
            raise UserError(
                f"{tune.places['fields']}: no entry holds for cell '{name}', but every cell is tuned; add one for it "
                "(an entry without 'when' holds for all cells)"
            )
        if len(holding) > 1:
            raise UserError(
                f"{holding[1].place}: this entry holds for cell '{name}', and so does the one at {holding[0].place}; "
                "make their 'when' exclude each other"
            )
        chosen[name] = holding[0]
    for entry in tune.entries:
        if not any(entry is used for used in chosen.values()):
            raise UserError(f"{entry.place}: this entry holds for no cell of the sweep")
    return chosen


def check_judge(tune: Tune, cell: Cell, settings: Sequence[Setting]) -> None:
    """The judge scores the cell in the report too, and had no part in its training."""
    scorers = cell.values["evaluation.scorers"]
    if tune.judge not in scorers:
        raise UserError(
            f"{tune.places['judge']}: '{tune.judge}' is not in evaluation.scorers ({', '.join(scorers)})"
            f"{suggest(tune.judge, scorers)}"
        )
    if not is_judge(tune.judge):
        raise UserError(
            f"{tune.places['judge']}: '{tune.judge}' is no judge: no value of it is better, so it cannot choose "
            "settings"
        )
    for setting in settings:
        conflicting = conflicts({**cell.values, **setting})
        if tune.judge in conflicting:
            independent = [name for name in scorers if name not in conflicting]
            advice = (
                f"use {' or '.join(independent)}" if independent else "add an independent one to evaluation.scorers"
            )
            raise UserError(
                f"{tune.places['judge']}: '{tune.judge}' {conflicting[tune.judge][0]} of cell '{cell.name}', so it "
                f"would choose what it was trained to prefer; {advice}"
            )


def captions_to_tune_on(tune: Tune, cells: Sequence[Cell]) -> tuple[str, ...]:
    """Of the prompts that all cells are tuned on, which are none of those that the report is evaluated on."""
    place, (path, most) = tune.places["split"], _prompts(tune, cells)
    reported = {
        (tuple(cell.values["evaluation.splits"]), cell.values["evaluation.prompts_per_split"]) for cell in cells
    }
    try:
        used = read_splits(Path(path), [tune.split], most)
        measured = [prompt for splits, limit in reported for prompt in read_splits(Path(path), splits, limit)]
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    captions = tuple(prompt.caption for prompt in used)
    digests = {prompt_digest(caption) for caption in captions}
    for prompt in measured:
        if prompt_digest(prompt.caption) in digests:
            raise UserError(
                f"{place}: the caption {show(prompt.caption)} is in split '{tune.split}' and in '{prompt.split}', "
                f"which the report is evaluated on ({path}); the splits must have no prompt in common"
            )
    return captions


def _prompts(tune: Tune, cells: Sequence[Cell]) -> tuple[str, int | None]:
    """The file of prompts, and how many of the split are used (None: all): the same for all cells."""
    place = tune.places["split"]
    for cell in cells:
        if tune.split in cell.values["evaluation.splits"]:
            raise UserError(
                f"{place}: cell '{cell.name}' is evaluated on split '{tune.split}' (evaluation.splits), where its "
                "chosen setting looks better than it is; tune on another split"
            )
    paths = list(dict.fromkeys(str(cell.values["evaluation.prompts"]) for cell in cells))
    if len(paths) > 1:
        raise UserError(
            f"{place}: cells have different evaluation.prompts ({', '.join(paths)}), but all cells are tuned on the "
            "same prompts: set one file in the experiment"
        )
    limits = list(dict.fromkeys(cell.values["evaluation.prompts_per_split"] for cell in cells))
    if tune.prompts is None and len(limits) > 1:
        raise UserError(
            f"{place}: cells have different evaluation.prompts_per_split, but all cells are tuned on the same prompts: "
            "say how many with 'prompts: N' in tune"
        )
    return paths[0], limits[0] if tune.prompts is None else tune.prompts


def check_different(cell: Cell, entry: Entry, trials: Sequence[Sequence[Cell]], keys: Keys) -> None:
    """Every setting is another training; where two are the same, the cell would have fewer trials than others."""
    trainings = Counter(seeds[0].stages["evaluate"].key for seeds in trials)
    different = len(trainings)
    if different == len(trials):
        return
    ignored = [name for name in entry.fields if _is_ignored(cell, entry, name, keys)]
    because = f": its stages do not read {' and '.join(ignored)}" if ignored else ""
    raise UserError(
        f"{entry.place}: the {len(trials)} settings of cell '{cell.name}' are only {different} different ones{because}"
        "; give this cell an entry of its own, with fields that it reads"
    )


def _is_ignored(cell: Cell, entry: Entry, name: str, keys: Keys) -> bool:
    """Whether no value of one field changes a stage of a cell that otherwise has its first setting."""
    first = entry.settings[0]
    identities = {
        tuple(node.key for node in keys.nodes({**cell.values, **first, name: value}).values())
        for value in entry.fields[name]
    }
    return len(entry.fields[name]) > 1 and len(identities) == 1
