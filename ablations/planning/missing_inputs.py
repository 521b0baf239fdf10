"""Planning before the download: stages whose data or base model is missing get keys that no finished stage has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsd.config.digest import is_hub_name
from qsd.config.near_paths import suggest_path
from qsd.errors import UserError
from qsd.stages import spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qsd.stages.stage_spec import StageSpec

DATA, MODEL = "data.path", "model.path"


class AbsentTable:
    """The stages of this project for ``ablate plan`` only; nothing may be run with its keys.

    If there is nothing at ``data.path`` or ``model.path``, the meaning of a stage is made of the plain values that it
    reads (there is no content to hash) and a mark that no stage that was run has.

    Attributes:
        absent: (field, path) of all paths with nothing there.
    """

    def __init__(self) -> None:
        self.absent: set[tuple[str, str]] = set()

    @property
    def STAGES(self) -> Mapping[str, StageSpec]:  # noqa: N802 (named like the module's constant)
        """All stages, inputs before their users."""
        return spec.STAGES

    def stages_of(self, values: Mapping[str, Any], /) -> list[str]:
        """The stages that a cell needs, inputs before their users."""
        return spec.stages_of(values)

    def stage_inputs(self, stage: str, values: Mapping[str, Any], /) -> tuple[str, ...]:
        """Names of the upstream stages."""
        return spec.stage_inputs(stage, values)

    def stage_meaning(self, stage: str, values: Mapping[str, Any], /) -> dict[str, Any]:
        """The meaning that ``qsd.stages.spec`` gives, or one that is valid for this plan only."""
        settings = spec.STAGES[stage].settings(values)
        absent = set(_absent(tuple(settings), values))
        if not absent:
            return spec.stage_meaning(stage, values)
        self.absent |= absent
        return {"absent": sorted(name for name, _ in absent), **settings}

    def key_of(self, stage: str, version: int, meaning: Mapping[str, Any], input_keys: Mapping[str, str], /) -> str:
        """The key of a stage."""
        return spec.key_of(stage, version, meaning, input_keys)

    def beside(self, error: UserError) -> UserError:
        """The error that makes a plan impossible, together with the paths that would only have been assumed."""
        absent = [f"{name}: {path}: no such file or folder" for name, path in sorted(self.absent)]
        return (
            UserError("; ".join([str(error), *absent, "'ablate doctor' lists all that is missing"]))
            if absent
            else error
        )

    def remarks(self) -> list[str]:
        """What is assumed about missing models, one line each; the estimate says what is assumed about data."""
        return [
            f"{name}: there is nothing at {path} yet{suggest_path(Path(path))}; planned with the size of a usual model "
            "of this resolution, and no stage that reads it counts as done"
            for name, path in sorted(self.absent)
            if name == MODEL
        ]


def _absent(names: tuple[str, ...], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in (DATA, MODEL):
        if name in names and not Path(values[name]).exists() and (name == DATA or not is_hub_name(values[name])):
            yield name, str(values[name])
