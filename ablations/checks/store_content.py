"""``ablate verify``: every finished stage of a store, read whole and compared with the digests in its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.formatting import format_bytes, format_count
from qsd.run_store import file_damage, names_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from qsd.run_store import Record, RunStore
    from qsd.runtime import Report

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Damage:
    """What is wrong with a finished stage.

    Attributes:
        folder: of the artefact.
        problems: one line per damaged file, or one about the record.
    """

    folder: Path
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """What was read: the number of finished stages, the bytes of their files, and what is damaged."""

    stages: int
    total_bytes: int
    damaged: tuple[Damage, ...]


def check_content(store: RunStore, report: Report, keys: Collection[str] | None = None) -> Content:
    """Read every file of every finished stage.

    Args:
        store: the store; nothing in it is changed.
        report: gets the MB read so far.
        keys: only these stages; None is all.
    """
    present = [
        (stage, key)
        for stage in sorted(names_in(store.root / "artefacts"))
        for key in sorted(store.present(stage))
        if keys is None or key in keys
    ]
    records = {place: store.record(*place) for place in present}
    total = sum(size for record in records.values() if record is not None for size in _sizes(record).values())
    done, damaged = 0, []
    for (stage, key), record in records.items():
        folder, problems = store.artefact(stage, key), []
        if record is None:
            damaged.append(Damage(folder, ("its record is missing or not readable",)))
            continue
        if (problem := store.record_problem(record, stage, key)) is not None:
            problems.append(problem)
        for name, size in _sizes(record).items():
            if (problem := file_damage(folder, record, name)) is not None:
                problems.append(problem)
            done += size
            report(done // _MEGABYTE, total // _MEGABYTE, "MB")
        if problems:
            damaged.append(Damage(folder, tuple(problems)))
    return Content(len(present), total, tuple(damaged))


def content_lines(content: Content, command: str) -> Iterator[str]:
    """The result as text; ``command`` computes again what was removed."""
    for damage in content.damaged:
        for problem in damage.problems:
            yield f"damaged: {damage.folder}: {problem}"
    read = f"{format_count(content.stages, 'finished stage')}, {format_bytes(content.total_bytes)}"
    if not content.damaged:
        yield f"{read}: every file is as it was written"
        return
    yield f"{read}: {len(content.damaged):,} damaged. Remove the folders, and '{command}' computes them again:"
    yield from _remove(content.damaged)


def _remove(damaged: Sequence[Damage]) -> Iterator[str]:
    for damage in damaged:
        yield f"  rm -r {damage.folder}"


def _sizes(record: Record) -> dict[str, int]:
    return {name: int(entry.get("bytes", 0)) for name, entry in record.files.items()}
