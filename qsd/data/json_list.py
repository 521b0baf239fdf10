"""A large JSON list, one item at a time: annotation files of gigabytes are never held whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1 << 20
_MOST_OF_AN_ITEM = 1 << 24
"""Characters; without a bound, one missing bracket would gather the rest of the file."""

_SPACE = " \t\r\n"


class _Text:
    """The unread part of a file, and the line it begins on."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open(encoding="utf-8-sig", newline="")
        self.rest = ""
        self.line = 1

    def more(self) -> bool:
        """Read on; False at the end of the file."""
        chunk = self._stream.read(_CHUNK)
        self.rest += chunk
        return bool(chunk)

    def drop(self, count: int) -> None:
        """Forget what was understood."""
        self.line += self.rest.count("\n", 0, count)
        self.rest = self.rest[count:]

    def peek(self) -> str:
        """The next character that is no space, or the empty string at the end."""
        while True:
            self.drop(len(self.rest) - len(self.rest.lstrip(_SPACE)))
            if self.rest or not self.more():
                return self.rest[:1]

    def item(self) -> Any:
        """The next value."""
        decoder = json.JSONDecoder()
        while True:
            try:
                value, end = decoder.raw_decode(self.rest)
            except (ValueError, RecursionError) as error:
                if len(self.rest) > _MOST_OF_AN_ITEM or not self.more():
                    line = self.line + (getattr(error, "lineno", 1) - 1)
                    raise ValueError(f"line {line}: {getattr(error, 'msg', 'a value that cannot be read')}") from None
                continue
            self.drop(end)
            return value

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()


def read_list(path: Path, kind: type[dict[str, Any]] | type[str]) -> Iterator[Any]:
    """The items of the list in ``path``, each a ``kind``.

    Raises:
        UserError: no such file, not UTF-8, no JSON, no list, or an item of another kind; with its line.
    """
    try:
        text = _Text(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    try:
        yield from _items(path, text, kind)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: after line {text.line}: not UTF-8 ({error.reason})") from None
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON, {error}; is the file cut off?") from None
    finally:
        text.close()


def _items(path: Path, text: _Text, kind: type[dict[str, Any]] | type[str]) -> Iterator[Any]:
    wanted = "objects {…}" if kind is dict else "texts"
    if text.peek() != "[":
        raise UserError(f"{path}:{text.line}: must be a JSON list of {wanted}")
    text.drop(1)
    if text.peek() == "]":
        return
    while True:
        text.peek()
        line = text.line
        value = text.item()
        if not isinstance(value, kind):
            raise UserError(f"{path}:{line}: must be a list of {wanted}, this item is {json.dumps(value)[:40]}")
        yield value
        after = text.peek()
        if after == "]":
            return
        if after != ",":
            raise ValueError(f"line {text.line}: a comma or the list's end is missing")
        text.drop(1)
