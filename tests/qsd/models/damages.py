"""Random damages to a folder of JSON files and safetensors: what copies, downloads and hands do to models."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from safetensors.torch import load_file, save_file

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

T = TypeVar("T")
Kind: TypeAlias = "Callable[[Path, random.Random], object]"
Kinds: TypeAlias = "Mapping[str, Kind]"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of a file."""
    tensors = load_file(path)
    change(tensors)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path, {"format": "pt"})


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@dataclass(frozen=True)
class Damage:
    """What was done to a folder.

    Attributes:
        file: the damaged one, relative to the folder.
        kind: name of the damage.
    """

    file: str
    kind: str

    def __str__(self) -> str:
        return f"{self.file}: {self.kind}"


def read_damaged(
    folder: Path,
    seed: int,
    read: Callable[[], T],
    more: Mapping[str, Kinds] | None = None,
    file: Path | None = None,
) -> tuple[T | None, Damage]:
    """Damage a folder and read it again.

    Args:
        folder: to damage.
        seed: that chooses the file and the damage.
        read: reads it.
        more: ending of a file's name -> further damages; those under "" are for every file.
        file: to damage; None is any in the folder.

    Returns:
        What was read, or None where that was refused in one line; and what was done to the folder.
    """
    done = damage(folder, seed, more, file)
    with no_longer_than(600, done):
        return outcome(folder, done, read), done


def outcome(folder: Path, done: Damage, read: Callable[[], T]) -> T | None:
    """What ``read`` returns; None where it refuses in one line that names the file or its folder."""
    try:
        return read()
    except UserError as error:
        message = str(error)
    print(f"{done}: {message}")
    assert message.isprintable(), done
    assert any(name in message for name in (*done.file.split("/"), folder.name)), f"{done}: {message}"
    return None


@contextmanager
def no_longer_than(seconds: int, done: Damage) -> Iterator[None]:
    """Fail after some seconds: reading a pipe, say, waits for ever."""

    def late(*_: object) -> None:
        raise TimeoutError(f"{done}: no answer after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damage(folder: Path, seed: int, more: Mapping[str, Kinds] | None = None, file: Path | None = None) -> Damage:
    """One damage, chosen by the seed; returns what was done. ``more`` and ``file`` are as in :func:`read_damaged`."""
    chance = random.Random(seed)
    path = file or chance.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    kinds: dict[str, Kind] = dict(FILES)
    kinds |= _JSON if path.suffix == ".json" else {}
    kinds |= _WEIGHTS if path.suffix == ".safetensors" else {}
    for suffix in ("", path.suffix):
        kinds |= (more or {}).get(suffix, {})
    kind = chance.choice(sorted(kinds))
    kinds[kind](path, chance)
    return Damage(path.relative_to(folder).as_posix(), kind)


def flip_a_bit(path: Path, chance: random.Random) -> None:
    """One bit of a file is another one."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def another_number(path: Path, chance: random.Random) -> None:
    """One number of a tensor is another finite one."""

    def change(tensors: dict[str, Tensor]) -> None:
        tensor = tensors[chance.choice(sorted(tensors))]
        if tensor.is_floating_point():
            tensor.view(-1)[chance.randrange(tensor.numel())] += chance.choice([-2.0, 0.5, 30.0])

    rewrite(path, change)


def _cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


def _as_folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _as_loop(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _as_pipe(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _swap(path: Path, chance: random.Random) -> None:
    tops = [parent for parent in path.parents if (parent / "model_index.json").is_file()]
    top = tops[0] if tops else path.parent
    other = chance.choice(sorted(file for file in top.rglob(f"*{path.suffix}") if file.is_file()))
    content = other.read_bytes()
    other.write_bytes(path.read_bytes())
    path.write_bytes(content)


def _a_tensor(change: Callable[[dict[str, Tensor], str], object]) -> Callable[[Path, random.Random], None]:
    """A change of one tensor that is chosen by chance."""
    return lambda path, chance: rewrite(path, lambda tensors: change(tensors, chance.choice(sorted(tensors))))


def _number(value: float) -> Callable[[dict[str, Tensor], str], None]:
    def change(tensors: dict[str, Tensor], name: str) -> None:
        if tensors[name].is_floating_point():
            tensors[name].view(-1)[0] = value

    return change


def _object(content: Any, chance: random.Random) -> dict[str, Any]:
    """The object that a file holds, or one of its list."""
    return chance.choice(content) if isinstance(content, list) else content


def _without_a_key(path: Path, chance: random.Random) -> None:
    def change(content: Any) -> None:
        entry = _object(content, chance)
        entry.pop(chance.choice(sorted(entry)))

    edit(path, change)


def _another_value(path: Path, chance: random.Random) -> None:
    value = chance.choice([None, -1, "x", [], {}, 0, [[1]], ""])

    def change(content: Any) -> None:
        entry = _object(content, chance)
        entry[chance.choice(sorted(entry))] = value

    edit(path, change)


FILES: dict[str, Kind] = {
    "a note beside it": lambda path, _: path.with_name("note.txt").write_text("of the copy"),
    "a Mac's file beside it": lambda path, _: path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7"),
    "renamed": lambda path, _: path.rename(path.with_name(f"{path.stem} (1){path.suffix}")),
    "pipe": _as_pipe,
    "cut": _cut,
    "empty": lambda path, _: path.write_bytes(b""),
    "zeros": lambda path, _: path.write_bytes(bytes(path.stat().st_size)),
    "noise": lambda path, chance: path.write_bytes(chance.randbytes(500)),
    "gone": lambda path, _: path.unlink(),
    "folder": _as_folder,
    "loop": _as_loop,
    "pointer": lambda path, _: path.write_bytes(LFS),
    "web page": lambda path, _: path.write_text("<!doctype html><html>sign in</html>"),
    "pickle": lambda path, _: torch.save({"a": torch.zeros(3)}, path),
    "folder gone": lambda path, _: shutil.rmtree(path.parent),
    "swapped": _swap,
}
"""Of any file."""
_JSON: dict[str, Kind] = {
    **{f"json {text[:8]}": lambda path, _, text=text: path.write_text(text) for text in ("[1]", "null", "3", "{}")},  # type: ignore[misc]
    "deep": lambda path, _: path.write_text("[" * 100_000),
    "a key gone": _without_a_key,
    "another value": _another_value,
}
_WEIGHTS: dict[str, Kind] = {
    "tensor gone": _a_tensor(lambda tensors, name: tensors.pop(name)),
    "tensor renamed": _a_tensor(lambda tensors, name: tensors.update({f"{name}x": tensors.pop(name)})),
    "tensor of another shape": _a_tensor(lambda tensors, name: tensors.update({name: torch.zeros(1, 2, 3)})),
    "tensor on its side": _a_tensor(
        lambda tensors, name: tensors.update({name: tensors[name].flatten(0).unsqueeze(0)})
    ),
    "bytes": _a_tensor(lambda tensors, name: tensors.update({name: tensors[name].to(torch.uint8)})),
    "whole numbers": _a_tensor(lambda tensors, name: tensors.update({name: tensors[name].int()})),
    "nan": _a_tensor(_number(float("nan"))),
    "infinite": _a_tensor(_number(float("inf"))),
    "an index of nothing": lambda path, _: path.with_name(f"{path.name}.index.json").write_text("{}"),
}
