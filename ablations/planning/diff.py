"""Differences of two cells: in configuration, in their stages, and in the code and machines that ran them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.grid.values import show
from ablations.store.attempts import latest, origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ablations.grid.expand import Cell
    from ablations.grid.keys import StageNode
    from ablations.store.artefacts import Store

_ABSENT = "-"
_KEY_DIGITS = 12


def diff(left: Cell, right: Cell, store: Store) -> dict[str, Any]:
    """All differences as plain values.

    "config": fields with both values and the stages that read them; "stages": both keys of every stage and, where they
    differ, the fields and inputs that make them differ; "attempts": differences between the newest attempts at stages
    of the same kind; "missing": by cell, the stages without an attempt.
    """
    stages = list(dict.fromkeys([*left.stages, *right.stages]))
    attempts, missing = _attempts(left, right, store, stages)
    return {
        "cells": [{"label": cell.label, "cell_id": cell.cell_id} for cell in (left, right)],
        "config": list(_config(left, right)),
        "stages": [_stage(stage, left.stages.get(stage), right.stages.get(stage)) for stage in stages],
        "attempts": attempts,
        "missing": missing,
    }


def print_diff(differences: Mapping[str, Any]) -> None:
    """Print the differences as ``left value | right value``."""
    left, right = (f"{cell['label']} ({cell['cell_id']})" for cell in differences["cells"])
    print(f"{left} | {right}")
    print("configuration" if differences["config"] else "configuration: the same")
    for entry in differences["config"]:
        readers = f"read by {', '.join(entry['read_by'])}" if entry["read_by"] else "no stage of these cells reads it"
        print(f"  {entry['field']}: {show(entry['left'])} | {show(entry['right'])}  ({readers})")
    print("stages")
    for entry in differences["stages"]:
        print(f"  {entry['stage']:9} {_keys(entry)}{_because(entry)}")
    print("code and environment of the newest attempts" + ("" if differences["attempts"] else ": no difference"))
    for entry in differences["attempts"]:
        print(f"  {entry['what']}: {entry['left']} | {entry['right']}  ({', '.join(entry['stages'])})")
    for cell, stages in differences["missing"].items():
        print(f"  {cell}: no attempt in this store at {', '.join(stages)}")


def _config(left: Cell, right: Cell) -> Iterator[dict[str, Any]]:
    for name in sorted({*left.values, *right.values}):
        ours, theirs = left.values.get(name), right.values.get(name)
        if ours != theirs:
            read = {node.stage: None for cell in (left, right) for node in cell.stages.values() if name in node.meaning}
            yield {"field": name, "left": ours, "right": theirs, "read_by": list(read)}


def _stage(stage: str, ours: StageNode | None, theirs: StageNode | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "stage": stage,
        "left": ours and ours.key,
        "right": theirs and theirs.key,
        "fields": [],
        "inputs": [],
    }
    if ours and theirs and ours.key != theirs.key:
        entry["fields"] = _changed(ours.meaning, theirs.meaning)
        entry["inputs"] = _changed(ours.inputs, theirs.inputs)
    return entry


def _changed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    missing = object()
    return [name for name in sorted({*ours, *theirs}) if ours.get(name, missing) != theirs.get(name, missing)]


def _keys(entry: Mapping[str, Any]) -> str:
    if entry["left"] == entry["right"]:
        return f"{entry['left'][:_KEY_DIGITS]}, shared"
    return " | ".join((entry[side] or _ABSENT)[:_KEY_DIGITS] for side in ("left", "right"))


def _because(entry: Mapping[str, Any]) -> str:
    reasons = [*entry["fields"], *(f"its {name}" for name in entry["inputs"])]
    return f"  differ by {', '.join(reasons)}" if reasons else ""


def _attempts(
    left: Cell, right: Cell, store: Store, stages: list[str]
) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Differences between attempts, each once with its stages; and by cell, the stages without an attempt."""
    stages_by_difference: dict[tuple[str, str, str], list[str]] = {}
    missing: dict[str, list[str]] = {}
    for stage in stages:
        sides = []
        for cell in (left, right):
            node = cell.stages.get(stage)
            facts = _facts(store, node) if node else None
            if node is not None and facts is None:
                missing.setdefault(cell.label, []).append(stage)
            sides.append(facts)
        ours, theirs = sides
        if ours is None or theirs is None:
            continue
        for what in dict.fromkeys([*ours, *theirs]):
            values = ours.get(what, _ABSENT), theirs.get(what, _ABSENT)
            if values[0] != values[1]:
                stages_by_difference.setdefault((what, *values), []).append(stage)
    differences = [
        {"what": what, "left": a, "right": b, "stages": where} for (what, a, b), where in stages_by_difference.items()
    ]
    return differences, missing


def _facts(store: Store, node: StageNode) -> dict[str, str] | None:
    """Code, libraries and machine that the newest attempt at a stage recorded; None if there is no attempt."""
    folder = latest(store, node.stage, node.key)
    about = origin(folder) if folder else {}
    if not about:
        return None
    git = about.get("git") or {}
    commit = git.get("commit")
    facts = {"commit": f"{commit[:12]}{' with changes' if git.get('dirty') else ''}" if commit else _ABSENT}
    facts |= {f"untracked {path}": str(mark) for path, mark in (git.get("untracked") or {}).items()}
    facts["snapshot"] = str(about.get("snapshot") or _ABSENT)
    facts |= {name: str(version) for name, version in (about.get("versions") or {}).items()}
    facts["host"] = str((about.get("owner") or {}).get("host", _ABSENT))
    facts |= {f"adjusted {name}": show(value) for name, value in (about.get("adjusted") or {}).items()}
    return facts | {
        f"${name}": str(value) for name, value in (about.get("environment") or {}).items() if _is_shown(name)
    }


def _is_shown(variable: str) -> bool:
    """Whether a difference in this environment variable is of interest; job numbers, for example, always differ."""
    return not variable.startswith("SLURM_") or variable in ("SLURM_JOB_PARTITION", "SLURM_CLUSTER_NAME")
