"""Opening data sets with an experiment's reader, or with the reader that recognises a path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qsd.config.near_paths import suggest_path
from qsd.data.only import OnlyRows
from qsd.data.readers import REGISTRY
from qsd.errors import UserError
from qsd.regular_files import check_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qsd.config.schema import ColumnsConfig, DataConfig
    from qsd.data.pairs import SourceRow
    from qsd.data.source import PairSource


class FirstRows:
    """A source that has only the first rows of another source."""

    def __init__(self, source: PairSource, count: int) -> None:
        self._source = source
        self._count = min(count, len(source))

    def __len__(self) -> int:
        return self._count

    def rows(self, start: int, stop: int) -> Iterator[SourceRow]:
        """See :meth:`PairSource.rows`."""
        return self._source.rows(start, min(stop, self._count))

    def image_bytes(self, number: int) -> tuple[bytes, bytes]:
        """See :meth:`PairSource.image_bytes`."""
        return self._source.image_bytes(number)


def open_source(config: DataConfig) -> PairSource:
    """The source that an experiment names.

    Raises:
        UserError: the path does not exist, or is not in the layout of the reader.
    """
    path = Path(config.path)
    check_complete(config.reader, path, config.accept_missing_shards)
    source = opened(config.reader, path, given_columns(config.columns))
    if config.only is not None:
        source = OnlyRows(source, config.reader, path, config.only)
    return source if config.max_rows is None else FirstRows(source, config.max_rows)


def opened(reader: str, path: Path, columns: Mapping[str, str]) -> PairSource:
    """The source at a path.

    Args:
        reader: its layout.
        path: file or folder.
        columns: role -> name of its column, where ``data.columns`` gives one.

    Raises:
        UserError: the path is not in this layout, or the layout has fixed columns and some are given.
    """
    spec = REGISTRY.get(reader)
    if not columns:
        return spec.open(path)
    if spec.with_columns is None:
        takes = " or ".join(name for name in REGISTRY.names() if REGISTRY.get(name).with_columns is not None)
        raise UserError(
            f"data.columns.{next(iter(columns))} is given, but data.reader {reader} has the columns of its layout; "
            f"leave it out, or use data.reader: {takes}"
        )
    return spec.with_columns(path, columns)


def given_columns(columns: ColumnsConfig) -> dict[str, str]:
    """Role -> name of its column, for the roles that an experiment gives."""
    unset = vars(type(columns)())
    return {role: name for role, name in vars(columns).items() if name != unset[role]}


def check_complete(reader: str, path: Path, accept: bool) -> None:
    """Refuse a pipe or a device, and a data set of which shards are missing, unless they are accepted.

    Raises:
        UserError: with what it is; with the shards' number and names.
    """
    check_regular(path)
    missing = REGISTRY.get(reader).missing
    text = None if accept or missing is None else missing(path)
    if text:
        raise UserError(
            f"{path}: {text}; fetch them again, or accept what is there with data.accept_missing_shards=true "
            "(--accept-missing-shards of 'qsd data')"
        )


def open_path(
    path: Path,
    reader: str | None = None,
    accept_missing_shards: bool = False,
    columns: Mapping[str, str] | None = None,
) -> tuple[str, PairSource]:
    """The reader's name and the opened source; without ``reader``, the one that recognises the path.

    Raises:
        UserError: the path does not exist, is not readable, or is recognised by no reader or by several.
    """
    name = reader or ("table" if columns else _recognised(path))
    check_complete(name, path, accept_missing_shards)
    return name, opened(name, path, columns or {})


def _recognised(path: Path) -> str:
    if not path.exists():
        if path.parent.exists():
            raise UserError(f"{path}: no such file or folder{suggest_path(path)}")
        # The path may be a name on the hub: Pick-a-Pic's reader detects that and explains what to do.
        return "pickapic"
    names = [name for name in REGISTRY.names() if REGISTRY.get(name).recognises(path)]
    if names == ["own_pairs", "table"]:
        return "table"  # own_pairs takes every .csv for its own by the ending alone
    if len(names) == 1:
        return names[0]
    known = ", ".join(REGISTRY.names())
    if names:
        raise UserError(f"{path}: readable as {' or '.join(names)}; choose one with --reader")
    lists = sorted(file.name for file in path.glob("*") if file.suffix in {".json", ".csv"}) if path.is_dir() else []
    hint = f"; did you mean a file in it ({', '.join(lists[:4])})?" if lists else ""
    raise UserError(f"{path}: in none of the known layouts ({known}){hint or '; docs/data.md shows them'}")
