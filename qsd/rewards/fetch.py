"""Published weights downloaded from the Hugging Face hub into the folder of a reward model."""

from __future__ import annotations

import ssl
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from qsd.errors import UserError, reason
from qsd.rewards.scorers import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qsd.rewards.hub import HubFile

_PATIENCE_S = 10.0


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
    missing = [(folder, file) for folder, file in wanted if not (weights / folder / file.file).is_file()]
    if missing:
        unreachable = _unreachable()
        if unreachable is not None:
            raise _refusal(name, weights, missing, unreachable)
    for number, (folder, file) in enumerate(missing):
        try:
            _download(file, weights / folder)
        except (OSError, ValueError, RuntimeError) as error:
            raise _refusal(name, weights, missing[number:], reason(error)) from None
    return [weights / folder / file.file for folder, file in wanted]


def _download(file: HubFile, folder: Path) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(file.repo, file.file, revision=file.revision, local_dir=folder)


def _refusal(name: str, weights: Path, missing: Sequence[tuple[str, HubFile]], why: str) -> UserError:
    """All that is missing at once, with the commands that fetch it elsewhere."""
    files = ", ".join(f"{file.file} of {file.repo}" for _, file in missing)
    fetched = " && ".join(file.command(weights / folder) for folder, file in missing)
    return UserError(
        f"reward model '{name}': cannot fetch {files} from the hub ({why}); on a machine with a network run: {fetched}"
    )


@cache
def _unreachable() -> str | None:
    """Why no file of the hub can be fetched; None if the hub answers.

    It is asked once: its client asks again for half a minute, and then for every file. Without a network on purpose
    (``HF_HUB_OFFLINE``) the client itself says so at once.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        request = Request(constants.ENDPOINT, method="HEAD")
        with urlopen(request, timeout=_PATIENCE_S):
            return None
    except HTTPError:  # an answer
        return None
    except (URLError, TimeoutError, ConnectionError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, ssl.SSLError):  # the client may know other certificates
            return None
        return f"{constants.ENDPOINT} cannot be reached: {cause}"
