"""Safe YAML with positions: every value knows its line and column, so every mistake can name its place.

Anchors, aliases, merge keys, custom tags, duplicate keys, tabs and oversized files are refused: an experiment or a
sweep needs none of them, and without them a file means what it shows. For the same reason the numbers that YAML 1.1
reads in its own way (``010`` is 8, ``0x10`` is 16, ``1_000`` is 1000) are neither numbers nor text here: ``Unclear``.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from qsd.config.near_paths import suggest_path
from qsd.config.unclear import Unclear
from qsd.errors import UserError
from qsd.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
_LOADER = yaml.SafeLoader
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}


_UNCLEAR = re.compile(
    r"[-+]?(0[0-9_]+(\.[0-9_]*)?([eE][-+]?[0-9]+)?|0[box][0-9a-fA-F_]+|[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?)"
)


_HIDDEN = re.compile("[\u00a0\u00ad\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u2064\u2066-\u206f\u3000\ufeff]")
"""Spaces that are not the plain one, and characters without a width: YAML takes them for letters."""


@dataclass(frozen=True)
class Node:
    """A YAML value with its place.

    Attributes:
        value: a scalar, a list of nodes, or a dict key -> (key node, value node).
        path: the file, as messages show it.
        line: from 1.
        column: from 1.
        text: a scalar as it is written in the file, without quotation marks.
    """

    value: Any
    path: str
    line: int
    column: int
    text: str = ""

    def error(self, message: str) -> UserError:
        """A UserError that begins with ``path:line:column``."""
        return UserError(f"{self.path}:{self.line}:{self.column}: {message}")

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, (_, node) in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def items(self) -> Iterator[tuple[str, Node, Node]]:
        """(key, key's node, value's node) of a mapping."""
        for key, (key_node, node) in self.value.items():
            yield key, key_node, node


def load(path: Path, shown_as: str | None = None) -> Node:
    """Read a YAML file whose top level is a mapping.

    Raises:
        UserError: the file is missing or not readable as such a mapping; the message begins with its place.
    """
    shown = shown_as or str(path)
    try:
        raw = read_regular(path)
    except FileNotFoundError:
        raise UserError(f"{shown}: no such file{suggest_path(path)}") from None
    except OSError as error:
        raise UserError(f"{shown}: cannot be read ({error.strerror})") from error
    if len(raw) > MAX_BYTES:
        raise UserError(f"{shown}:1:1: {len(raw):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{shown}:{line}:1: not UTF-8 text") from error
    return parse(text, shown)


def parse(text: str, shown: str) -> Node:
    """Parse YAML text; ``shown`` is the file name used in messages. Raises like :func:`load`."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            mark = event.start_mark
            assert mark is not None, event
            place = f"{shown}:{mark.line + 1}:{mark.column + 1}"
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH + 1:  # here and not below: the parser takes minutes for thousands of open brackets
                raise UserError(f"{place}: nested deeper than {MAX_DEPTH} levels")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise UserError(f"{place}: anchors and aliases are not used here; write the value out")
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        raise _parser_error(error, text, shown) from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise UserError(f"{shown}:{line}:1: a character that YAML does not allow (#x{error.character:04x})") from error
    except RecursionError as error:
        raise UserError(f"{shown}:1:1: nested deeper than {MAX_DEPTH} levels") from error
    if root is None:
        raise UserError(f"{shown}:1:1: the file is empty")
    node = _convert(root, shown, 0)
    if not isinstance(node.value, dict):
        raise node.error("the top level must be a mapping of keys to values")
    return node


def _parser_error(error: yaml.MarkedYAMLError, text: str, shown: str) -> UserError:
    """What the parser found, in words that name the remedy where the mistake is a common one."""
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "not valid YAML"
    if "'\\t'" in problem:
        problem = "a tab; indent with spaces"
    if problem.startswith("mapping values are not allowed"):
        name = text.splitlines()[mark.line].partition(":")[0].strip() if mark else ""
        problem = f"{problem}: a colon inside of text; put the {name or 'text'} in quotes"
    if problem.startswith("could not find expected ':'") and error.context_mark:
        mark = error.context_mark  # of the key: the parser notices only further down that its colon is missing
        key = text.splitlines()[mark.line][mark.column :].strip()
        problem = f"{key!r:.40} has no colon; write 'name: value'"
    where = f"{shown}:{mark.line + 1}:{mark.column + 1}" if mark else shown
    return _hidden_in(text, shown, mark.line if mark else 0) or UserError(f"{where}: {problem}")


def _convert(node: yaml.Node, shown: str, depth: int) -> Node:
    mark = node.start_mark
    line, column = mark.line + 1, mark.column + 1

    def at(value: Any, written: str = "") -> Node:
        return Node(value, shown, line, column, written)

    if depth > MAX_DEPTH:
        raise at(None).error(f"nested deeper than {MAX_DEPTH} levels")
    if node.tag == "tag:yaml.org,2002:merge":
        raise at(None).error("merge keys (<<) are not used here; write the values out")
    if node.tag == "tag:yaml.org,2002:timestamp":
        return at(node.value, node.value)
    if node.tag not in _PLAIN_TAGS:
        raise at(None).error(
            f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is not allowed; only plain values are"
        )
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, tuple[Node, Node]] = {}
        for key_node, value_node in node.value:
            key = _convert(key_node, shown, depth + 1)
            if not isinstance(key.value, str):
                unclear = isinstance(key.value, Unclear)
                wrong = key.value.in_quotes if unclear else f"{key.plain()!r}; put it in quotes"
                raise key.error(f"a key must be text, not {wrong}")
            if key.value in mapping:
                first = mapping[key.value][0]
                raise key.error(f"duplicate key '{key.value}' (first on line {first.line})")
            mapping[key.value] = (key, _convert(value_node, shown, depth + 1))
        return at(mapping)
    if isinstance(node, yaml.SequenceNode):
        return at([_convert(child, shown, depth + 1) for child in node.value])
    assert isinstance(node, yaml.ScalarNode), node
    _refuse_hidden(node, at(None))
    return at(_scalar(node, at(None)), node.value)


def _refuse_hidden(node: yaml.ScalarNode, place: Node) -> None:
    """Refuse a name or number without quotation marks that is not what it seems.

    Inside of a sentence such characters do no harm: some languages have them before a question mark.

    Raises:
        UserError: with the character and its place.
    """
    text = node.value
    match = _HIDDEN.search(text)
    if node.style is not None or match is None:
        return
    in_sentence = " " in text or not _HIDDEN.sub("", text).isascii()
    ends = text[0] + text[-1] + text.partition(":")[2][:1]
    if in_sentence and not _HIDDEN.search(ends):
        return
    raise Node(None, place.path, place.line, place.column + match.start()).error(_hidden_character(match[0]))


def _hidden_in(text: str, shown: str, line: int) -> UserError | None:
    """The error for the last character up to a line that cannot be seen, on that line or the one before."""
    lines = text.split("\n")[: line + 1]
    for number in range(len(lines), max(0, len(lines) - 2), -1):
        if match := _HIDDEN.search(lines[number - 1].removeprefix("\ufeff")):
            return UserError(f"{shown}:{number}:{match.start() + 1}: {_hidden_character(match[0])}")
    return None


def _hidden_character(character: str) -> str:
    name = unicodedata.name(character, "no name").lower()
    remedy = "write a plain space, or nothing; in quotes it is kept"
    return f"a character that cannot be seen (U+{ord(character):04X}, {name}); {remedy}"


def _scalar(node: yaml.ScalarNode, place: Node) -> Any:
    """The value of a scalar; ``place`` is where it stands, for messages."""
    if any("\ud800" <= character <= "\udfff" for character in node.value):
        raise place.error("half of a surrogate pair; write the character itself")
    try:
        return _number(node)
    except (ValueError, OverflowError, IndexError, KeyError, AttributeError) as error:
        written = node.value if len(node.value) <= 40 else f"{node.value[:37]}..."
        raise place.error(f"{written!r} is not a readable value") from error


def _number(node: yaml.ScalarNode) -> Any:
    """A scalar by the safe constructor; ``1e-4`` counts as a number, which YAML 1.1 reads as text, ``1:30`` as text."""
    if (node.style is None or not node.tag.endswith(":str")) and _UNCLEAR.fullmatch(node.value):
        return Unclear(node.value)
    value = yaml.constructor.SafeConstructor().construct_object(node)
    if isinstance(value, int | float) and ":" in node.value:
        return node.value
    if isinstance(value, str) and node.style is None:
        try:
            # Python also reads digits of other scripts, which no other program takes for a number.
            number = value[:1] in "+-.0123456789" and "_" not in value and value.isascii()
            return float(value) if number else value
        except ValueError:
            return value
    return value
