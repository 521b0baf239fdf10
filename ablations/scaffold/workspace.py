"""``ablate init``: a folder outside the installed package with sweeps, experiments and members of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.errors import UserError
from qsd.own_members import FOLDER, KINDS

if TYPE_CHECKING:
    from pathlib import Path

_README = """\
# Sweeps

Run all commands in this folder.

    ablate new experiment mine --data PAIRS --model MODEL --weights WEIGHTS --prompts PROMPTS
    ablate plan NAME       # sweeps/NAME.yaml
    ablate run NAME

| folder | content |
|---|---|
| `sweeps/` | a question and what varies, one file each |
| `experiments/` | what is held fixed, one file each; `clusters/` has profiles of SLURM sites |
| `members/` | own losses, metrics, normalizations, strategies, scorers and readers, one file each |
| `runs/` | results |

A file `members/losses/mine.py` that defines `LOSS` is the loss `mine`; files of the package, such as
`qsd/losses/ipo.py`, show the form. Its source is part of the keys: after an edit, what depends on it is computed again.
"""
_SWEEP = """\
# A question, and what varies. It needs experiments/mine.yaml (ablate new experiment mine --data ... --model ...).
question: Which loss makes the best images from the same pairs?
experiment: mine
axes:
  loss.name: [dpo, ipo, sft]
baseline: {loss.name: dpo}
seeds: [0, 1, 2]
"""
_FILES = {"README.md": _README, "sweeps/first.yaml": _SWEEP, ".gitignore": "runs/\n__pycache__/\n"}


def make_workspace(folder: Path) -> list[Path]:
    """Write the folders and files of a workspace; those that are there stay as they are. What was written.

    Raises:
        UserError: something that is no folder is in the way.
    """
    folders = [folder / "sweeps", folder / "experiments" / "clusters", *(folder / FOLDER / kind for kind in KINDS)]
    written = []
    try:
        for each in folders:
            if not each.is_dir():
                each.mkdir(parents=True)
                written.append(each)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{error.filename}: is not a folder; choose another place") from None
    for name, text in _FILES.items():
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")
            written.append(folder / name)
    return written
