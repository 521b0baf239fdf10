"""The folder that a single command fills (``--out``): taken, continued after an interruption, or overwritten.

While a run is under way, ``.state/meaning.json`` says with which settings. When it has finished, ``.qsd.json`` lists
the files that it wrote, so that ``--overwrite`` deletes results of ``qsd`` and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING

from qsd.errors import UserError
from qsd.files import read_json, remove_leftovers, write_bytes
from qsd.runtime import STATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_MEANING = "meaning.json"
FILES = ".qsd.json"


@contextlib.contextmanager
def claimed(output: Path, meaning: str, overwrite: bool = False, inputs: Iterable[Path] = ()) -> Iterator[None]:
    """Take ``output`` for a run, or take it over from an interrupted run with the same meaning.

    A run that fails before it has written anything, as after a mistake in the configuration, leaves no folder behind.
    One that ends normally lists its files, without its state.

    Args:
        output: the folder.
        meaning: everything that decides the result.
        overwrite: first delete the result, finished or not, that an earlier run left there.
        inputs: folders that the run reads, which are never deleted.

    Raises:
        UserError: the folder holds something else.
    """
    existed = output.is_dir()
    if overwrite:
        _clear(output, inputs)
    _claim(output, meaning)
    try:
        yield
    except BaseException:
        if all(path.is_dir() or path == output / STATE / _MEANING for path in output.rglob("*")):
            shutil.rmtree(output / STATE, ignore_errors=True)
            if not existed:
                shutil.rmtree(output, ignore_errors=True)
        raise
    shutil.rmtree(output / STATE, ignore_errors=True)
    remove_leftovers(output)
    write_bytes(output / FILES, json.dumps(_files(output), indent=1).encode())


def _claim(output: Path, meaning: str) -> None:
    """Write the mark of a run, unless it is there.

    Raises:
        UserError: the folder holds something else.
    """
    mark = output / STATE / _MEANING
    if mark.is_file():
        if mark.read_text(encoding="utf-8") != meaning:
            raise UserError(
                f"{output}: holds an interrupted run with other settings; add --overwrite or choose another --out"
            )
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        remedy = "add --overwrite or choose" if _written_here(output) is None else "delete it or choose"
        raise UserError(f"{output}: exists and is not empty; {remedy} another --out")
    mark.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(mark, meaning.encode())


def _clear(output: Path, inputs: Iterable[Path]) -> None:
    """Delete what an earlier run left in ``output``.

    Raises:
        UserError: it holds an input, or something that ``qsd`` did not write.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    for folder in inputs:
        if folder.resolve().is_relative_to(output.resolve()):
            raise UserError(f"--overwrite {output}: this run reads {folder}; choose another --out")
    other = _written_here(output)
    if other is not None:
        raise UserError(f"--overwrite {output}: {other}; delete it yourself or choose another --out")
    for path in output.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _written_here(output: Path) -> str | None:
    """None if everything in a folder was written by a run of ``qsd``; otherwise what was not, in words."""
    if not output.is_dir():
        return "it is no folder"
    if (output / STATE / _MEANING).is_file():  # it was new or empty when the run began
        return None
    listed = read_json(output / FILES)
    if not isinstance(listed, list):
        return "it is not known to be a result of qsd"
    other = next((name for name in _files(output) if name not in set(listed)), None)
    return None if other is None else f"{other} is not of the run that filled it"


def _files(output: Path) -> list[str]:
    """Relative names of all files in a folder, sorted; without the list itself."""
    paths = (path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(path for path in paths if path != FILES)
