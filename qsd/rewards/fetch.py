"""Published weights downloaded from the Hugging Face hub into the folder of a reward model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qsd.errors import UserError, reason
from qsd.rewards.scorers import REGISTRY

if TYPE_CHECKING:
    from qsd.rewards.hub import HubFile


def fetch(name: str, weights: Path, revision: str | None = None) -> list[Path]:
    """Download what the reward model ``name`` needs into its folders below ``weights``; what is there is kept.

    Args:
        name: of the reward model.
        weights: folder with one folder per reward model (``reward.weights``).
        revision: of the repositories, instead of those that the reward model states.

    Raises:
        UserError: unknown name, no weights or none that are published, or the hub cannot be reached.
    """
    spec = REGISTRY.get(name)
    if not spec.folders:
        raise UserError(f"reward model '{name}' has no weights of its own: there is nothing to fetch")
    others = [REGISTRY.get(other) for other in REGISTRY.names()]
    wanted = [(spec.folder, file) for file in spec.files]
    for folder in spec.needs:
        below = next((other for other in others if other.folder == folder and other.files), None)
        wanted += [(folder, file) for file in below.files] if below else []
    if not wanted:
        raise UserError(f"reward model '{name}' has no published weights; it is trained by this project")
    if revision is not None:
        wanted = [(folder, replace(file, revision=revision)) for folder, file in wanted]
    return [_fetched(file, weights / folder) for folder, file in wanted]


def _fetched(file: HubFile, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    target = folder / file.file
    if target.is_file():
        return target
    try:
        return Path(hf_hub_download(file.repo, file.file, revision=file.revision, local_dir=folder))
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot fetch {file.file} of {file.repo} from the hub ({reason(error)}); on a machine with a network run: "
            f"{file.command(folder)}"
        ) from None
