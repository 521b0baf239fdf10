"""Which files of a pipeline's folder or repository are read: a repository holds its weights several times over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from qsd.errors import UserError
from qsd.models.families import INDEX, Family, family_in, read_index

_SMALL = (".json", ".txt", ".model")
_WEIGHTS = ".safetensors"
_HALF = "fp16"


def check_folder(folder: Path, place: str) -> None:
    """Check that a pipeline's folder is of a known family and has the weights of all its parts.

    Args:
        folder: where it is.
        place: what the configuration calls it, for the message.

    Raises:
        UserError: no pipeline, one of no known family, or parts without weights, by name.
    """
    missing = parts_without_weights(_names(folder), _family(folder, place))
    if missing:
        raise UserError(f"{place}: no weights (*{_WEIGHTS}) of {', '.join(missing)}; fetch them, or set model.path")


def download(place: str, snapshot: Callable[..., str]) -> str:
    """Fetch what is read of a model on the hub; returns the folder.

    Args:
        place: its hub name, for messages.
        snapshot: downloads the files that match ``allow_patterns`` and not ``ignore_patterns``; returns the folder.

    Raises:
        UserError: it is no pipeline of a known family, or has no weights in safetensors.
    """
    folder = Path(snapshot(allow_patterns=[INDEX]))
    family = _family(folder, place)
    small = [f"{part}/*{ending}" for part in family.folders for ending in _SMALL]
    plain = [f"{part}/*{_WEIGHTS}" for part in family.weight_folders]
    snapshot(allow_patterns=[*small, *plain], ignore_patterns=["*.*.safetensors", "*/*/*"])
    # Weights in fp16 are fetched only for parts that have no others: both together would double the download.
    missing = parts_without_weights(_names(folder), family)
    if missing:
        snapshot(allow_patterns=[f"{part}/*.{_HALF}*{_WEIGHTS}" for part in missing])
    check_folder(folder, place)
    return str(folder)


def parts_without_weights(names: Iterable[str], family: Family) -> list[str]:
    """The parts for which these files (``folder/file``) hold neither plain weights nor fp16 ones, in safetensors."""
    places = [PurePosixPath(name) for name in names]
    readable = [place for place in places if place.suffix == _WEIGHTS and _variant(place.name) in (None, _HALF)]
    complete = {str(place.parent) for place in readable}
    return [folder for folder in family.weight_folders if folder not in complete]


def _family(folder: Path, place: str) -> Family:
    try:
        index = read_index(folder)
    except (OSError, ValueError):
        raise UserError(f"{place}: not a diffusers model: {INDEX} is missing or damaged; check model.path") from None
    return family_in(index, place)


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _variant(name: str) -> str | None:
    """``fp16`` of ``model.fp16.safetensors`` and ``model.fp16-00001-of-00002.safetensors``; None of plain files."""
    _, dot, rest = name.removesuffix(_WEIGHTS).partition(".")
    return rest.partition("-")[0] if dot else None
