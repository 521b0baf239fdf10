"""Tables of a tuned sweep are refused where its cells were measured on what they were tuned on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.data.tuning import prompt_digest
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from analysis.data.sweep import SweepFolder

_NAMED = 3


def check_apart(sweep: SweepFolder, captions: Mapping[str, Iterable[str]]) -> None:
    """Refuse results that were measured where the settings were chosen: there, the chosen ones look too good.

    Args:
        sweep: its trained cells are checked.
        captions: split -> captions of the prompts that trained cells were scored on.

    Raises:
        UserError: a training seed or a training of the report is one of the tuning, or a prompt was tuned on.
    """
    tuning = sweep.tuning
    if tuning is None:
        return
    refused = f"{sweep.folder}: no table, because"
    remedy = f"change 'tune' or 'seeds' in the sweep and run '{sweep.name}' again"
    trainings = {trial.stages["train"]: trial for trial in tuning.trials if "train" in trial.stages}
    for replicate in sweep.replicates:
        if replicate.role != "base" and replicate.seed in tuning.seeds:
            raise UserError(f"{refused} {replicate.label} was trained with a tuning seed; {remedy}")
        trial = trainings.get(replicate.stages.get("train", ""))
        if trial is not None:
            raise UserError(f"{refused} {replicate.label} is the training of trial '{trial.name}'; {remedy}")
    tuned_on = set(tuning.prompt_digests)
    for split, of_split in captions.items():
        shared = sorted({caption for caption in of_split if prompt_digest(caption) in tuned_on})
        if shared:
            named = ", ".join(repr(caption) for caption in shared[:_NAMED])
            more = f" and {len(shared) - _NAMED:,} more" if len(shared) > _NAMED else ""
            raise UserError(
                f"{refused} trained cells were scored on prompts of split {split} that they were tuned on ({named}"
                f"{more}); {remedy}"
            )
