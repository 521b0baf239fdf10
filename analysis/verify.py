"""Check the written tables and figures against their lock, and against what the results give when built again."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from analysis.lock import NAME, inputs
from analysis.page.present import NAME as PAGE
from analysis.page.present import is_present
from qsd.run_store import RunStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_NAMED = 3


def verify(runs: Path, sweep_folder: Path) -> tuple[int, list[str]]:
    """The number of files that were built again, and what is not as it should be; writes nothing.

    First what has changed since the tables were written (files, cells, artefacts, the code of ``analysis``), then the
    artefacts whose files are not what their stage wrote, then the files that come out with other bytes when built
    again, the page among them.

    Raises:
        UserError: the tables were never written, or cannot be built again (a damaged artefact is named).
    """
    from analysis.page.write import page_text
    from analysis.report import outputs
    from qsd.errors import UserError

    try:
        lock = json.loads((sweep_folder / NAME).read_text(encoding="utf-8"))
        written, made_from = dict(lock["outputs"]), dict(lock["inputs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{sweep_folder / NAME}: no readable lock of tables; 'ablate table' writes it") from error
    now = inputs(runs, sweep_folder)
    problems = [*_changed_files(sweep_folder, written), *_changed_inputs(made_from, now)]
    problems += _damaged(RunStore(runs), now["records"])
    again = {name: hashlib.sha256(content).hexdigest() for name, content in outputs(runs, sweep_folder).items()}
    for name in sorted({*written, *again}):
        if name not in again:
            problems.append(f"{name}: these results no longer give this file")
        elif name not in written:
            problems.append(f"{name}: these results give this file, and the lock does not have it")
        elif again[name] != written[name]:
            problems.append(f"{name}: these results give other content")
    page = sweep_folder / PAGE
    if not page.is_file():
        return len(again), problems
    if not is_present(sweep_folder):
        problems.append(f"{PAGE}: shows other tables or another run")
    elif page.read_text(encoding="utf-8") != page_text(runs, sweep_folder):
        problems.append(f"{PAGE}: these results give other content")
    return len(again) + 1, problems


def _damaged(store: RunStore, records: Mapping[str, str | None]) -> Iterator[str]:
    """Artefacts that count as finished, with a file that is not what the stage wrote."""
    for place in sorted(place for place, record in records.items() if record is not None):
        stage, _, key = place.partition("/")
        if (problem := store.damage(stage, key)) is not None:
            yield f"{place}: {problem}; remove the folder, and 'ablate run' computes it again"


def _changed_files(folder: Path, written: Mapping[str, str]) -> Iterator[str]:
    for name, digest in sorted(written.items()):
        path = folder / name
        if not path.is_file():
            yield f"{name}: missing"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            yield f"{name}: changed since it was written"


def _changed_inputs(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if then.get("code") != now["code"]:
        yield "the code of analysis/ has changed since the tables were written"
    if then.get("cells.json") != now["cells.json"]:
        yield "cells.json: changed since the tables were written"
    before, after = then.get("records", {}), now["records"]
    other = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    if other:
        more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
        yield f"{len(other)} artefacts were added, removed or made again: {', '.join(other[:_NAMED])}{more}"
