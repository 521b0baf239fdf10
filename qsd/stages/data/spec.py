"""Stage data: the pairs of a data set, read and examined once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsd.config.check import schema_fields
from qsd.config.once_per_process import OncePerProcess
from qsd.data.listed import ListedPairs
from qsd.data.only import check_column
from qsd.data.opening import check_complete, opened
from qsd.data.readers import REGISTRY
from qsd.stages.select.spec import LABEL_CHANGES
from qsd.stages.stage_spec import Compute, Rehearsal, StageCost, StageSpec, Work, member_code, section

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Counts, ModelSizes, Values


def columns_of(values: Values) -> tuple[tuple[str, str], ...]:
    """Role and name of each column of a table that a configuration gives."""
    return tuple(
        (name.rpartition(".")[2], values[name])
        for name in section("data.columns")
        if values[name] != schema_fields()[name].default
    )


def _reads(_values: Values) -> tuple[str, ...]:
    """All but what happens to the labels later, and who made them, which the adapter's model card says."""
    return tuple(name for name in section("data") if name not in (*LABEL_CHANGES, "data.labels"))


def _extra(values: Values) -> dict[str, Any]:
    """The reader's code, and a digest of image files that its path does not cover.

    Raises:
        UserError: shards are missing, or a column of true and false, so that the plan stops and not its first stage.
    """
    check_complete(values["data.reader"], Path(values["data.path"]), values["data.accept_missing_shards"])
    for setting in ("data.only", "data.judge_agrees"):
        if values[setting] is not None:
            _check_flags(values["data.reader"], values["data.path"], values[setting], setting)
    code = member_code("data.reader", REGISTRY, values["data.reader"])
    images = _images_digest(values["data.reader"], values["data.path"], columns_of(values))
    return {**code, "data.images": images} if images else code


@OncePerProcess
def _check_flags(reader: str, path: str, column: str, setting: str) -> None:
    """Refuse a column of true and false that a list on this machine does not have. Read once per process."""
    if Path(path).exists():
        check_column(reader, Path(path), column, setting)


@OncePerProcess
def _images_digest(reader: str, path: str, columns: tuple[tuple[str, str], ...]) -> str | None:
    """What the path's own digest does not cover: image files beside a list. Computed once per process."""
    if columns:
        source = opened(reader, Path(path), dict(columns))
        return source.digest() if isinstance(source, ListedPairs) else None
    digest = REGISTRY.get(reader).digest
    return digest(Path(path)) if digest else None


def _work(values: Values, counts: Counts) -> Work:
    pairs = counts.pairs(values)
    return Work(pairs, "pairs", pairs)


def _compute(_values: Values, pairs: float, _processes: int, _sizes: ModelSizes) -> Compute:
    return Compute(decoded_images=2 * pairs)


STAGE = StageSpec(
    help="Read the preference pairs and refuse damaged rows.",
    entry="qsd.stages.data.run:run",
    version=2,
    reads=_reads,
    extra=_extra,
    execution=lambda _: ("data.labelled_by",),
    cost=StageCost(_work, _compute),
    rehearsal=Rehearsal(
        shape=("data.reader",),
        # So few rows do not show how damaged a data set is; the rehearsal must not fail by a handful of bad ones.
        settings={"data.max_rejected_fraction": 0.5},
    ),
    examines_model=True,
    uses_gpu=False,
    counts={"pairs": "pairs"},
)
