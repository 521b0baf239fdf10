"""``ablate new experiment``: a complete experiment with a comment on every field."""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING, Any

from ablations.grid.settings import as_yaml
from qsd.config.check import registry_of, schema_fields
from qsd.config.fields import Kind, sections_of
from qsd.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ablations.scaffold.findings import Findings
    from qsd.config.fields import FieldInfo

RECIPE: dict[str, tuple[Any, str]] = {
    "training.steps": (1000, "a first try; more for data sets above ten thousand pairs"),
    "training.pairs_per_step": (16, "a first try"),
    "training.learning_rate": (1e-5, "common for LoRA under preference losses; worth a sweep"),
    "selection.fraction": (20.0, "a first try; worth a sweep"),
}
"""Fields without a default, or whose default is no good start, with why."""
_MEMBERS = {"selection": "selection.strategy", "loss": "loss.name", "method": "method.name"}
"""Sections whose further fields belong to the member that is chosen."""
_COLUMN = 42


def text(name: str, findings: Findings) -> str:
    """The file of an experiment.

    Fields with a default are comments, so that the file shows what can be set and only states what was decided.

    Args:
        name: of the experiment.
        findings: what the data, the model and the reward models say.
    """
    lines = [f"# {name}: everything that a sweep over it holds fixed. Fields in comments have their defaults."]
    if findings.missing:
        lines.append(f"# MISSING: {', '.join(findings.missing)}; see below.")
    fields = schema_fields()
    for section in sections_of(ExperimentConfig):
        names = [field for field in fields if field.startswith(f"{section}.")]
        shown = [
            line for field in names for line in _lines(fields[field], findings, _is_of_other_member(field, section))
        ]
        active = any(not line.lstrip().startswith("#") for line in shown)
        lines += ["", f"{section}:" if active else f"# {section}:", *shown]
    lines += ["", *(line for name in ("device", "threads") for line in _top(fields[name]))]
    return "\n".join(lines) + "\n"


def _lines(info: FieldInfo, findings: Findings, other: bool) -> Iterator[str]:
    if other:
        return
    short = info.name.partition(".")[2]
    if info.name in findings.missing:
        what = findings.missing[info.name]
        if info.required or info.needed:
            yield _with_comment(f"  # {short}:", f"MISSING: {what}")
        else:
            yield _with_comment(f"  # {short}: {as_yaml(info.default)}", f"MISSING, so this default holds: {what}")
    elif info.name in findings.values:
        remark = findings.remarks.get(info.name, "given")
        yield _with_comment(f"  {short}: {as_yaml(findings.values[info.name])}", f"{info.why}; {remark}")
    elif info.name in RECIPE:
        value, remark = RECIPE[info.name]
        yield _with_comment(f"  {short}: {as_yaml(value)}", f"{info.why}; {remark}")
    else:
        how = "" if info.kind is not Kind.EXECUTION else "; changes no result"
        yield _with_comment(f"  # {short}: {as_yaml(info.default)}", f"{info.why}{how}")


def _top(info: FieldInfo) -> Iterator[str]:
    yield _with_comment(f"# {info.name}: {as_yaml(info.default)}", info.why)


def _with_comment(line: str, comment: str) -> str:
    return f"{line:<{_COLUMN}} # {comment}"


def _is_of_other_member(field: str, section: str) -> bool:
    """Whether a field is a setting of a member that this experiment does not choose."""
    choosing = _MEMBERS.get(section)
    if choosing is None or field == choosing:
        return False
    info = schema_fields()[choosing]
    registry = registry_of(info)
    assert registry is not None, choosing
    of_member = dataclasses.fields(registry.get(info.default).settings)
    of_section = dataclasses.fields(typing.get_type_hints(ExperimentConfig)[section])
    return field.partition(".")[2] not in {item.name for item in (*of_member, *of_section)}
