"""Random damages to a folder of JSON files and safetensors: what copies, downloads and hands do to models."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import load_file, save_file

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

T = TypeVar("T")
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


def read_damaged(folder: Path, seed: int, read: Callable[[], T]) -> tuple[T | None, str]:
    """Damage a folder and read it again.

    Returns:
        What was read, or None where that was refused in one line; and what was done to the folder.
    """
    done, message = damage(folder, seed), ""
    try:
        return read(), done
    except UserError as error:
        message = str(error)
    assert "\n" not in message, done
    return None, done


def damage(folder: Path, seed: int) -> str:
    """One damage, chosen by the seed; returns what was done."""
    chance = random.Random(seed)
    path = chance.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    kinds: dict[str, Callable[[Path, random.Random], object]] = dict(_FILES)
    kinds |= _JSON if path.suffix == ".json" else {}
    kinds |= _WEIGHTS if path.suffix == ".safetensors" else {}
    kind = chance.choice(sorted(kinds))
    kinds[kind](path, chance)
    return f"{path.relative_to(folder)}: {kind}"


def _cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


def _as_folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _as_loop(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


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


def _without_a_key(path: Path, chance: random.Random) -> None:
    edit(path, lambda content: content.pop(chance.choice(sorted(content))))


def _another_value(path: Path, chance: random.Random) -> None:
    value = chance.choice([None, -1, "x", [], {}, 0, [[1]], ""])
    edit(path, lambda content: content.update({chance.choice(sorted(content)): value}))


_FILES: dict[str, Callable[[Path, random.Random], object]] = {
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
_JSON: dict[str, Callable[[Path, random.Random], object]] = {
    **{f"json {text[:8]}": lambda path, _, text=text: path.write_text(text) for text in ("[1]", "null", "3", "{}")},  # type: ignore[misc]
    "deep": lambda path, _: path.write_text("[" * 100_000),
    "a key gone": _without_a_key,
    "another value": _another_value,
}
_WEIGHTS: dict[str, Callable[[Path, random.Random], object]] = {
    "tensor gone": _a_tensor(lambda tensors, name: tensors.pop(name)),
    "tensor renamed": _a_tensor(lambda tensors, name: tensors.update({f"{name}x": tensors.pop(name)})),
    "tensor of another shape": _a_tensor(lambda tensors, name: tensors.update({name: torch.zeros(1, 2, 3)})),
    "whole numbers": _a_tensor(lambda tensors, name: tensors.update({name: tensors[name].int()})),
    "nan": _a_tensor(_number(float("nan"))),
    "infinite": _a_tensor(_number(float("inf"))),
    "an index of nothing": lambda path, _: path.with_name(f"{path.name}.index.json").write_text("{}"),
}
