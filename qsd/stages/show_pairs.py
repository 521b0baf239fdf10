"""The command ``qsd show``: an experiment and the results of its first stages become a contact sheet."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from qsd.config.assignments import assignments
from qsd.config.find import find_experiment
from qsd.config.load import build, load_flat, override
from qsd.errors import UserError
from qsd.files import write_bytes
from qsd.selection.contact_sheet import best_and_worst, contact_sheet, scores_are_read
from qsd.stages.run_single import input_folders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def show_pairs(experiment: Path, settings: Sequence[str], inputs: Sequence[str], out: Path, count: int) -> str:
    """Write the sheet; a line about it.

    Args:
        experiment: YAML file.
        settings: ``dotted.name=value`` each.
        inputs: ``data=FOLDER`` and, if Q reads scores, ``score=FOLDER``.
        out: the PNG; replaced if it is there.
        count: pairs of each kind.

    Raises:
        UserError: a wrong setting or input, ``out`` is no PNG, or as ``contact_sheet.best_and_worst``.
    """
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: give it a name that ends in .png")
    config = build(override(load_flat(find_experiment(str(experiment))), assignments(settings)))
    wanted = ("data", "score") if scores_are_read(config) else ("data",)
    folders = input_folders("show", inputs, wanted)
    best, worst = best_and_worst(config, folders["data"], folders.get("score"), count)
    by = f"{config.quality.metric}, scores of {config.reward.model}, {config.quality.normalization}"
    title = f"{experiment.stem}: pairs by Q ({by if 'score' in folders else config.quality.metric})"
    stream = io.BytesIO()
    contact_sheet(title, best, worst).save(stream, "PNG")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, stream.getvalue())
    return f"show: {out} ({len(best)} pairs with the highest Q, {len(worst)} with the lowest)"
