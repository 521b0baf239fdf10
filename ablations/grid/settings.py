"""Settings of the command line (``-s training.steps=60``): overrides of a sweep that its file does not have.

Whatever changes results gets a folder of its own, ``<sweep>@<experiment>+<settings>``, because the name of the
experiment has the settings: tables, launches and W&B never mix two settings of one sweep. Settings that only change how
stages run, and those that the sweep has anyway, leave the name as it is.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ablations.grid.spec import no_override
from ablations.grid.values import show
from qsd.config.check import schema_fields
from qsd.config.digest import hash_of
from qsd.config.fields import Kind
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.grid.spec import Sweep

MARK = "+"
"""Stands between the experiment and the settings in the name of a sweep's folder."""
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_LONGEST = 80
_AMBIGUOUS = ("null", "true", "false", "yes", "no", "on", "off", "y", "n", "~")
"""Texts that would be written as another value is."""


def with_settings(sweep: Sweep, settings: Mapping[str, Any]) -> Sweep:
    """``sweep`` with the checked values of fields over its experiment and its overrides.

    Raises:
        UserError: a field that is an axis of the sweep or tuned by it, or that no sweep sets.
    """
    axes = set(sweep.varies)
    tuned = sweep.tune.fields if sweep.tune else ()
    for name, value in settings.items():
        reason = no_override(name, axes)
        if name in tuned:
            reason = f"'{name}' is tuned by this sweep; a setting would have no effect"
        if reason:
            raise UserError(f"--set {name}={show(value)}: {sweep.shown}: {reason}")
    return replace(sweep, settings=dict(settings))


def changing(settings: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change results, by name.

    Args:
        settings: dotted name -> checked value.
        stated: flat values of the sweep without them.
    """
    fields = schema_fields()
    return {
        name: settings[name]
        for name in sorted(settings)
        if fields[name].kind is not Kind.EXECUTION and settings[name] != stated[name]
    }


def variant(experiment: str, settings: Mapping[str, Any]) -> str:
    """The name of an experiment with settings: ``emoji+training.steps=60``.

    Values that a folder's name cannot show, or too many, give a hash of twelve digits instead: ``emoji+4f0e9c21ab37``.
    """
    if not settings:
        return experiment
    shown = {name: show(value) for name, value in settings.items()}
    texts = [f"{name}={text}" for name, text in shown.items()]
    clear = all(_PLAIN.fullmatch(text) for text in shown.values()) and not any(map(_is_ambiguous, settings.values()))
    if clear and len(",".join(texts)) <= _LONGEST:
        return f"{experiment}{MARK}{','.join(texts)}"
    return f"{experiment}{MARK}{hash_of(dict(settings))[:12]}"


def options(settings: Mapping[str, Any]) -> str:
    """The settings as a shell takes them: ``-s training.steps=60``."""
    return " ".join(f"-s {shlex.quote(f'{name}={as_yaml(value)}')}" for name, value in settings.items())


def typed(sweep: Sweep) -> str:
    """What selects a sweep with its settings in a command: ``loss -s training.steps=60``."""
    return f"{sweep.name} {options(sweep.settings)}".strip()


def as_yaml(value: Any) -> str:
    """A value as YAML and ``--set`` read it; texts that YAML takes for something else are quoted."""
    if isinstance(value, list):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, str) and (_is_ambiguous(value) or not re.fullmatch(r"[A-Za-z_./~][\w./@~-]*", value)):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, float):
        return repr(value)
    return show(value)


def _is_ambiguous(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in _AMBIGUOUS
