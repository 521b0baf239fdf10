"""What an experiment needs to be there before it runs: data, weights, prompts; on this disk, or by a hub name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.formatting import format_bytes
from qsd.config.check import schema_fields
from qsd.config.digest import is_hub_name
from qsd.config.fields import Kind
from qsd.errors import UserError
from qsd.models.files import check_folder
from qsd.models.files import download as fetch_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_DATA = "data.path"
_MODEL = "model.path"
_WEIGHTS = "reward.weights"


@dataclass(frozen=True)
class Supply:
    """One thing that must be there.

    Attributes:
        field: the field of the experiment that names it.
        place: a path, or a hub name with an optional ``@revision``.
        what: what it is, for a person.
        scorer: the reward model whose published weights belong at ``place``; empty for anything else.
    """

    field: str
    place: str
    what: str
    scorer: str = ""

    @property
    def on_hub(self) -> bool:
        """True if ``place`` is a hub name; weights of reward models are always below a folder."""
        return self.field != _WEIGHTS and is_hub_name(self.place)

    @property
    def remedy(self) -> str:
        """What to do when it is not there."""
        if self.scorer:
            command = f"qsd fetch {self.scorer} --weights {Path(self.place).parent}"
            return f"run 'ablate prefetch' or '{command}' where there is a network, or set {self.field}"
        return f"put it there, or set {self.field}"


def supplies(values: Mapping[str, Any], also: Mapping[str, Iterable[Any]] | None = None) -> list[Supply]:
    """Everything that a flat configuration needs, each once; ``also``: further values of fields that a sweep varies."""
    from qsd.rewards.scorers import ENSEMBLE, REGISTRY

    also = also or {}
    found: dict[tuple[str, str], Supply] = {}
    for name, info in schema_fields().items():
        if info.kind is Kind.LOCATION:
            for place in (values[name], *also.get(name, ())):
                found.setdefault((name, place), Supply(name, place, name))
    scorers = [values["reward.model"], *also.get("reward.model", ())]
    for several in (values["evaluation.scorers"], *also.get("evaluation.scorers", ())):
        scorers.extend(several)
    if ENSEMBLE in scorers:
        scorers.extend(values["reward.members"] or ())
    for scorer in dict.fromkeys(name for name in scorers if name != ENSEMBLE):
        spec = REGISTRY.get(scorer)
        for folder in spec.folders:
            place = str(Path(values[_WEIGHTS]) / folder)
            supply = Supply(_WEIGHTS, place, f"weights of {scorer}", scorer if spec.files else "")
            found.setdefault((supply.field, supply.place), supply)
    return list(found.values())


def look(supply: Supply) -> str:
    """What is there, without a network: files and format_bytes, or the folder of a download.

    Raises:
        UserError: nothing usable is there; the message says how to mend it.
    """
    if supply.on_hub:
        return _snapshot(supply, download=False)
    path = Path(supply.place)
    if not path.exists():
        raise UserError(f"{supply.place}: no such file or folder; {supply.remedy}")
    if supply.field == _MODEL:
        check_folder(path, supply.place)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    total = sum(file.stat().st_size for file in files)
    if not total:
        raise UserError(f"{supply.place}: empty; put it there again, or set {supply.field}")
    return f"{len(files):,} file{'s' * (len(files) != 1)}, {format_bytes(total)}"


def fetch(supply: Supply) -> str:
    """Download what has a hub name, and published weights of reward models; only look at the rest. Raises as `look`."""
    if supply.scorer and not Path(supply.place).exists():
        from qsd.rewards.fetch import fetch as fetch_weights

        fetch_weights(supply.scorer, Path(supply.place).parent)
    return _snapshot(supply, download=True) if supply.on_hub else look(supply)


def _snapshot(supply: Supply, download: bool) -> str:
    from huggingface_hub import snapshot_download

    name, _, revision = supply.place.partition("@")
    kind = "dataset" if supply.field == _DATA else "model"
    snapshot: Callable[..., str] = partial(
        snapshot_download, name, repo_type=kind, revision=revision or None, local_files_only=not download
    )
    try:
        if supply.field == _MODEL and download:
            return f"downloaded to {fetch_model(supply.place, snapshot)}"
        folder = snapshot()
    except (OSError, ValueError) as error:
        if not download:
            mend = f"run 'ablate prefetch' where there is a network, or set {supply.field}"
            raise UserError(f"{supply.place}: not on this disk, nor downloaded from the hub; {mend}") from None
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{supply.place}: cannot be downloaded as a {kind} ({reason}); check {supply.field}") from None
    if supply.field == _MODEL:
        check_folder(Path(folder), supply.place)
    return f"downloaded to {folder}"
