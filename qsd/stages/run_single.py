"""Run one stage by hand, without a sweep: an experiment, the folders of its inputs, a folder for the result."""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qsd.config.assignments import assignments
from qsd.config.check import schema_fields
from qsd.config.digest import canonical_json, hub_note, may_change
from qsd.config.field_places import with_place
from qsd.config.fields import Kind
from qsd.config.find import find_experiment
from qsd.config.load import build, load_flat, override
from qsd.errors import UserError
from qsd.output_folder import claimed
from qsd.registry import suggest
from qsd.run_store import file_damages, read_record
from qsd.runtime import Report, StageContext
from qsd.stages.spec import STAGES, stage_inputs, stage_meaning
from qsd.training.launcher import launched, rank

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_stage(
    stage: str,
    experiment: Path,
    settings: Sequence[str],
    inputs: Sequence[str],
    output: Path,
    report: Report,
    overwrite: bool = False,
) -> None:
    """Run ``stage`` into ``output``; an interrupted run of the same settings is continued.

    Args:
        stage: its name.
        experiment: name or path of a YAML file.
        settings: ``dotted.name=value`` each, over the experiment.
        inputs: ``name=FOLDER`` each.
        output: folder to fill; it must be new, empty, or left behind by an interrupted run.
        report: progress.
        overwrite: delete the result, finished or not, that an earlier run left in ``output``.

    Raises:
        UserError: a wrong setting, a missing or surplus input, or an output that holds something else.
    """
    path, given = find_experiment(str(experiment)), assignments(settings)
    flat = override(load_flat(path), given)
    for name, instead in STAGES[stage].unused(flat).items():
        if name in given:
            raise UserError(f"--set {name}: stage {stage} does not use it here ({instead}); leave it out")
    folders = input_folders(stage, inputs, stage_inputs(stage, flat))
    for name in STAGES[stage].reads(flat):
        if schema_fields()[name].kind is Kind.LOCATION and may_change(str(flat[name])):
            print(f"note: {hub_note(name, flat[name])}", file=sys.stderr, flush=True)
    try:
        own = stage_meaning(stage, flat)
    except UserError as error:
        raise with_place(error, path, given) from None
    meaning = {"meaning": own, "inputs": {name: str(path) for name, path in folders.items()}}
    if launched() > 1 and STAGES[stage].processes is None:
        several = " and ".join(name for name, spec in STAGES.items() if spec.processes is not None)
        raise UserError(f"stage {stage} runs in one process; only {several} can be started by torchrun")
    context = StageContext(config=build(flat), inputs=folders, output=output, report=report)
    module, function = STAGES[stage].entry.split(":")
    run = getattr(importlib.import_module(module), function)
    text = canonical_json({"stage": stage, **meaning})
    with claimed(output, text, overwrite, folders.values()) if rank() == 0 else contextlib.nullcontext():
        run(context)


def input_folders(stage: str, given: Sequence[str], wanted: Sequence[str]) -> dict[str, Path]:
    """The folders of ``name=FOLDER``, one for each of ``wanted``.

    Raises:
        UserError: one is missing, surplus, there twice, no folder, or not what its record says.
    """
    folders: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals:
            raise UserError(f"--input {text}: write it as name=FOLDER")
        if name not in wanted:
            needs = ", ".join(wanted) or "none"
            raise UserError(
                f"--input {text}: stage {stage} has no input '{name}'{suggest(name, wanted)}; inputs: {needs}"
            )
        if not Path(folder).is_dir():
            raise UserError(f"--input {text}: {folder} is not a folder")
        if name in folders:
            raise UserError(f"--input {name} is given twice: {folders[name]} and {folder}; leave the one that is meant")
        folders[name] = Path(folder)
        _check_content(text, folders[name])
    for name in wanted:
        if name not in folders:
            raise UserError(f"stage {stage} needs --input {name}=FOLDER, the result of `qsd {name}`")
    return folders


def _check_content(text: str, folder: Path) -> None:
    """Compare an artefact of a run store with its record; the result of an earlier ``qsd`` command has none."""
    record = read_record(folder)
    problem = next(file_damages(folder, record), None) if record is not None else None
    if problem is not None:
        raise UserError(f"--input {text}: {problem}; compute it again")
