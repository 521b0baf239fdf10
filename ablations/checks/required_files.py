"""Files that must exist before an experiment runs: data, weights, prompts; on this disk, or on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.formatting import format_bytes
from qsd.config.check import schema_fields
from qsd.config.digest import is_hub_name
from qsd.config.fields import Kind
from qsd.data.prompt_sets import FIELDS as PROMPT_FIELDS
from qsd.data.prompt_sets import set_at
from qsd.errors import UserError
from qsd.models.files import check_folder
from qsd.models.files import download as fetch_model
from qsd.models.folder_checks import check_model, check_place
from qsd.models.whole import check_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from qsd.data.prompt_sets.prompt_set import PromptSet

_DATA = "data.path"
_MODEL = "model.path"
_WEIGHTS = "reward.weights"


@dataclass(frozen=True)
class RequiredFile:
    """One file or folder that must exist.

    Attributes:
        field: the field of the experiment that names it.
        place: a path, or a hub name with an optional ``@revision``.
        what: what it is, for messages.
        scorer: the reward model whose published weights belong at ``place``; empty for anything else.
        reward: the reward model whose weights, published or not, belong at ``place``; empty for anything else.
    """

    field: str
    place: str
    what: str
    scorer: str = ""
    reward: str = ""

    @property
    def on_hub(self) -> bool:
        """True if ``place`` is a hub name; weights of reward models are always below a folder."""
        return self.field != _WEIGHTS and is_hub_name(self.place)

    @property
    def prompt_set(self) -> PromptSet | None:
        """The published prompts whose file ``place`` is, if any."""
        return set_at(self.place) if self.field in PROMPT_FIELDS else None

    @property
    def remedy(self) -> str:
        """What to do if it does not exist."""
        if self.scorer:
            command = f"qsd fetch {self.scorer} --weights {Path(self.place).parent}"
            return f"run 'ablate prefetch' or '{command}' on a machine with a network connection, or set {self.field}"
        if self.prompt_set is not None:
            return f"run 'ablate prefetch' with a network connection, or set {self.field}"
        return f"put it there, or set {self.field}"


def required_files(values: Mapping[str, Any], varied: Mapping[str, Iterable[Any]] | None = None) -> list[RequiredFile]:
    """All files that a flat configuration needs, each once; ``varied``: values that a sweep gives to fields."""
    from qsd.rewards.scorers import ENSEMBLE, REGISTRY

    varied = varied or {}
    by_place: dict[tuple[str, str], RequiredFile] = {}
    for name, info in schema_fields().items():
        if info.kind is Kind.LOCATION:
            for place in (values[name], *varied.get(name, ())):
                if not place:
                    continue  # a field that only some methods need
                by_place.setdefault((name, place), RequiredFile(name, place, name))
    scorers = [values["reward.model"], *varied.get("reward.model", ())]
    for scorer_names in (values["evaluation.scorers"], *varied.get("evaluation.scorers", ())):
        scorers.extend(scorer_names)
    if values["evaluation.embedder"] is not None:
        scorers.append(values["evaluation.embedder"])
    if ENSEMBLE in scorers:
        scorers.extend(values["reward.members"] or ())
    for scorer in dict.fromkeys(name for name in scorers if name != ENSEMBLE):
        spec = REGISTRY.get(scorer)
        for folder in spec.folders:
            place = str(Path(values[_WEIGHTS]) / folder)
            fetched = scorer if spec.files else ""
            required = RequiredFile(_WEIGHTS, place, f"weights of {scorer}", fetched, reward=scorer)
            by_place.setdefault((required.field, required.place), required)
    return list(by_place.values())


def loads_libraries(required: RequiredFile) -> bool:
    """Whether :func:`verify` loads PyTorch and diffusers, which takes seconds, and minutes on a busy machine."""
    return required.field == _MODEL and (required.on_hub or Path(required.place).is_dir())


def verify(required: RequiredFile) -> str:
    """Check that the files exist, without a network: their number and size, or the folder of a download.

    Raises:
        UserError: they are missing or unusable; the message says how to fix it.
    """
    if required.on_hub:
        return _snapshot(required, download=False)
    path = Path(required.place)
    if not path.exists():
        raise UserError(f"{required.place}: no such file or folder; {required.remedy}")
    if required.field == _MODEL:
        check_place(required.place)
        check_folder(path, required.place)
        check_model(required.place)
        check_whole(required.place)
    if required.reward:
        from qsd.rewards.external import check_judge
        from qsd.rewards.external import open_scorer as open_judge
        from qsd.rewards.opening import check_files
        from qsd.rewards.scorers import REGISTRY

        check_files(required.reward, path)
        if REGISTRY.get(required.reward).open is open_judge:
            check_judge(path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    total = sum(file.stat().st_size for file in files)
    if not total:
        raise UserError(f"{required.place}: empty; copy it again, or set {required.field}")
    return f"{len(files):,} file{'s' * (len(files) != 1)}, {format_bytes(total)}"


def fetch(required: RequiredFile) -> str:
    """Download a model with a hub name, published weights or prompts; only verify anything else.

    Raises:
        UserError: as ``verify``.
    """
    if required.scorer:
        from qsd.rewards.fetch import fetch as fetch_weights
        from qsd.rewards.revision import files_read

        try:
            files_read(required.scorer, Path(required.place))
        except UserError:  # nothing there, or not all of it
            fetch_weights(required.scorer, Path(required.place).parent)
    if required.prompt_set is not None:
        from qsd.data.prompt_sets.fetch import fetch_set

        return fetch_set(required.prompt_set)
    return _snapshot(required, download=True) if required.on_hub else verify(required)


def _snapshot(required: RequiredFile, download: bool) -> str:
    from huggingface_hub import snapshot_download

    name, _, revision = required.place.partition("@")
    kind = "dataset" if required.field == _DATA else "model"
    snapshot: Callable[..., str] = partial(
        snapshot_download, name, repo_type=kind, revision=revision or None, local_files_only=not download
    )
    try:
        if required.field == _MODEL and download:
            return f"downloaded to {fetch_model(required.place, snapshot)}"
        folder = snapshot()
    except (OSError, ValueError) as error:
        if not download:
            fix = f"run 'ablate prefetch' with a network connection, or set {required.field}"
            raise UserError(f"{required.place}: neither on this disk nor downloaded from the hub; {fix}") from None
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{required.place}: cannot be downloaded as a {kind} ({reason}); check {required.field}"
        ) from None
    if required.field == _MODEL:
        check_folder(Path(folder), required.place)
        check_model(str(folder))
        check_whole(str(folder))
    return f"downloaded to {folder}"
