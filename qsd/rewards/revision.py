"""The revision of a reward model: a digest of its weights and its code.

Where a reward model says which files it reads, these alone count, by their content: neither the name under which a
checkpoint was saved nor what else lies in the folder changes the revision. Of any other folder all files count.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from qsd.config.digest import digest, hash_of
from qsd.config.once_per_process import OncePerProcess
from qsd.errors import UserError
from qsd.rewards.scorers import ENSEMBLE, REGISTRY

if TYPE_CHECKING:
    from qsd.rewards.scorers import ScorerSpec

_NO_WEIGHTS = frozenset({".json", ".md", ".txt", ".yaml", ".yml"})
"""Files that lie beside weights; a folder with these alone has none."""


@OncePerProcess
def revision(name: str, weights: str) -> str:
    """12 hex digits that change with the weights, the code or the version of reward model ``name``.

    Raises:
        UserError: no such reward model, or its weights are not below the folder ``weights``.
    """
    if name == ENSEMBLE:
        raise UserError(
            "reward model 'ensemble' is relative to a data set of pairs: it ranks them (reward.model), and evaluates "
            "no images; name its members in evaluation.scorers instead"
        )
    spec = REGISTRY.get(name)
    digests = {folder: _digest(files_read(name, Path(weights) / folder)) for folder in spec.folders}
    return hash_of({"weights": digests, "source": REGISTRY.source(name), "version": spec.version})[:12]


def files_read(name: str, place: Path) -> Path | dict[str, Path]:
    """What the reward model ``name`` reads in ``place``, one of its folders: published name -> file, or the folder.

    Raises:
        UserError: the folder, or a file that is read, is not there; or there is nothing but descriptions.
    """
    spec = REGISTRY.get(name)
    remedy = f", or fetch them: qsd fetch {name} --weights {place.parent}" if spec.files else ""
    remedy = f"set reward.weights to the folder that has them{remedy}"
    if not place.is_dir():
        raise UserError(f"{place}: no weights of reward model '{name}'; {remedy}")
    names_read = _names_read(spec, place.name)
    if not names_read and not any(_holds_weights(file, place) for file in place.rglob("*")):
        raise UserError(f"{place}: the folder has no weights of reward model '{name}'; {remedy}")
    files = {names[0]: next((place / each for each in names if (place / each).is_file()), None) for names in names_read}
    for names in names_read:
        file = files[names[0]]
        if file is None or not file.stat().st_size:
            raise UserError(f"{place}: has no {' or '.join(names)} of reward model '{name}'; {remedy}")
    return {published: file for published, file in files.items() if file is not None} or place


def _digest(files: Path | dict[str, Path]) -> str:
    if isinstance(files, Path):
        return digest(files)
    total = hashlib.sha256()
    for published, file in files.items():
        total.update(f"{published}\0{digest(file)}\n".encode())
    return total.hexdigest()[:32]


def _names_read(spec: ScorerSpec, folder: str) -> tuple[tuple[str, ...], ...]:
    """The files that are read in a folder, each by the names that it may have; empty where that is not known."""
    if folder != spec.folder:  # the folder of the reward model below, such as the CLIP below a head
        below = (REGISTRY.get(other) for other in REGISTRY.names())
        return next((_names_read(other, folder) for other in below if other.folder == folder), ())
    return spec.reads or tuple((file.file,) for file in spec.files)


def _holds_weights(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.suffix not in _NO_WEIGHTS and file.is_file() and file.stat().st_size > 0
