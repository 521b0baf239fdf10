"""What a shell completes (``--install-completion``): names of files, and fields of the experiment."""

from __future__ import annotations

from pathlib import Path


def sweeps(incomplete: str) -> list[str]:
    """Names of the sweeps in ``sweeps/``."""
    return _names(Path("sweeps"), incomplete)


def experiments(incomplete: str) -> list[str]:
    """Names of the experiments in ``experiments/``."""
    return _names(Path("experiments"), incomplete)


def fields(incomplete: str) -> list[str]:
    """Fields of the experiment, each with its equals sign; after it, the names that the field takes."""
    from qsd.config.check import registry_of, schema_fields

    known = schema_fields()
    name, equals, value = incomplete.partition("=")
    if not equals:
        return [f"{field}=" for field in known if field.startswith(name)]
    if name not in known:
        return []
    registry = registry_of(known[name])
    values = registry.names() if registry is not None else known[name].choices
    return [f"{name}={each}" for each in values if each.startswith(value)]


def _names(folder: Path, incomplete: str) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.yaml") if file.stem.startswith(incomplete))
