"""How a judge in a process of its own is reached: ``run.json``, and what a connection to it must do."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from qsd.errors import UserError, reason
from qsd.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RUN = "run.json"
_SETTINGS = ("command", "url", "batch_size", "timeout_s", "start_timeout_s")
_SHOWN = 80


@dataclass(frozen=True)
class RunSettings:
    """How a judge is reached.

    Attributes:
        place: the file that says so, for messages.
        command: program and arguments, run in the judge's folder; empty for a server.
        url: of a server; empty for a command.
        batch_size: items of one request.
        timeout_s: longest time for an answer.
        start_timeout_s: longest time until it has said what it is.
    """

    place: Path
    command: tuple[str, ...] = ()
    url: str = ""
    batch_size: int = 16
    timeout_s: float = 600.0
    start_timeout_s: float = 1800.0


class Channel(Protocol):
    """A connection to a judge."""

    def statement(self) -> Any:
        """What the judge says of itself when it starts.

        Raises:
            UserError: it does not start, or not in time.
        """

    def ask(self, request: Mapping[str, Any]) -> Any:
        """The answer to a request.

        Raises:
            UserError: it ended, cannot be reached, does not answer in time, or answers with something that is not JSON.
        """


def read_settings(folder: Path) -> RunSettings:
    """How to reach the judge, from ``run.json``.

    Raises:
        UserError: a missing or damaged file, neither or both of command and url, or a value that cannot be.
    """
    path = folder / RUN
    try:
        config = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read as JSON ({reason(error)})"
        raise UserError(f"{path}: {why}; it says how to reach the judge, with 'command' or 'url'") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: must be a JSON object, not {shown(config)}")
    if further := sorted(config.keys() - set(_SETTINGS)):
        raise UserError(f"{path}: unknown key '{further[0]}'; known: {', '.join(_SETTINGS)}")
    if ("command" in config) == ("url" in config):
        raise UserError(f"{path}: must have either 'command' (a list of texts) or 'url'")
    command, url = config.get("command", []), config.get("url", "")
    if not isinstance(command, list) or not all(isinstance(part, str) and part for part in command):
        raise UserError(f"{path}: command is {shown(command)}; it must be a list of texts, the program first")
    if not isinstance(url, str) or ("url" in config and not url.startswith(("http://", "https://"))):
        raise UserError(f"{path}: url is {shown(url)}; it must begin with http:// or https://")
    if "command" in config and not command:
        raise UserError(f"{path}: command is empty; give the program and its arguments")
    batch, usual = config.get("batch_size", RunSettings.batch_size), RunSettings(path)
    if type(batch) is not int or batch < 1:
        raise UserError(f"{path}: batch_size is {shown(batch)}; it must be a whole number of at least 1")
    times = [config.get(key, getattr(usual, key)) for key in ("timeout_s", "start_timeout_s")]
    for key, value in zip(("timeout_s", "start_timeout_s"), times, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise UserError(f"{path}: {key} is {shown(value)}; it must be a number of seconds above 0")
    return RunSettings(path, tuple(command), url, batch, float(times[0]), float(times[1]))


def shown(value: Any, most: int = _SHOWN) -> str:
    """A value of the judge's in one line, not too long."""
    text = value if isinstance(value, str) and most > _SHOWN else repr(value)
    return " ".join(text.split())[:most]
