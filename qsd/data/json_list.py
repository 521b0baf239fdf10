"""Reading a large JSON list item by item: annotation files of gigabytes are never held in memory as a whole."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from qsd.data.lfs import pointer_hint
from qsd.errors import UserError
from qsd.regular_files import check_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1 << 20
_MOST_OF_AN_ITEM = 1 << 24
"""Characters; without this bound, one missing bracket would load the rest of the file into memory."""

_SPACE = re.compile(r"[ \t\r\n]*")


class _Text:
    """A file that is being read, and the position up to which it was parsed."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open(encoding="utf-8-sig", newline="")
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._place = 0
        self.line = 1

    def peek(self) -> str:
        """The next character that is not white space, or the empty string at the end."""
        while True:
            space = _SPACE.match(self._text, self._place)
            assert space is not None
            self._understood(space.end())
            if self._place < len(self._text) or not self._more():
                return self._text[self._place : self._place + 1]

    def skip(self) -> None:
        """Move past the character that :meth:`peek` returned."""
        self._place += 1

    def item(self) -> Any:
        """The next value."""
        while True:
            try:
                value, end = self._decode(self._text, self._place)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._place > _MOST_OF_AN_ITEM or not self._more():
                    raise ValueError(f"line {self._line_of(error)}: {getattr(error, 'msg', 'unreadable')}") from None
                continue
            self._understood(end)
            return value

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _understood(self, end: int) -> None:
        self.line += self._text.count("\n", self._place, end)
        self._place = end

    def _line_of(self, error: Exception) -> int:
        return self.line + self._text.count("\n", self._place, getattr(error, "pos", self._place))

    def _more(self) -> bool:
        """Read the next chunk and drop the parsed text; False at the end of the file."""
        chunk = self._stream.read(_CHUNK)
        self._text = self._text[self._place :] + chunk
        self._place = 0
        return bool(chunk)


def read_list(path: Path, kind: type[dict[str, Any]] | type[str]) -> Iterator[Any]:
    """The items of the list in ``path``, each a ``kind``.

    Raises:
        UserError: no such file, not UTF-8, no JSON, no list, or an item of another kind; with its line.
    """
    check_regular(path)
    try:
        text = _Text(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    try:
        yield from _items(path, text, kind)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: after line {text.line}: not UTF-8 ({error.reason})") from None
    except ValueError as error:
        hint = "" if ";" in str(error) else "; is the file cut off?"
        raise UserError(f"{path}: not readable as JSON, {error}{hint}") from None
    finally:
        text.close()


def _items(path: Path, text: _Text, kind: type[dict[str, Any]] | type[str]) -> Iterator[Any]:
    wanted = "objects {…}" if kind is dict else "texts"
    if text.peek() != "[":
        raise UserError(f"{path}:{text.line}: {pointer_hint(path) or f'must be a JSON list of {wanted}'}")
    text.skip()
    if text.peek() == "]":
        _check_end(text)
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
            _check_end(text)
            return
        if after != ",":
            raise ValueError(f"line {text.line}: a comma or the list's end is missing")
        text.skip()


def _check_end(text: _Text) -> None:
    """Refuse whatever follows the list: two lists in one file are two data sets, of which one would be lost."""
    text.skip()
    if text.peek():
        raise ValueError(f"line {text.line}: more text after the end of the list; keep one list in a file")
