"""A judge as a program: one line of JSON in, one line of JSON out, with time limits; it ends with this process.

Its first line says what it is. What it writes to its standard error is kept, and its last line is part of the message
when it fails. It is started in the judge's folder, without the variables that belong to this interpreter.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import time
import weakref
from typing import IO, TYPE_CHECKING, Any

from qsd.errors import UserError, reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qsd.rewards.external_settings import RunSettings

_OWN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
_CHUNK = 1 << 16
_MOST_OF_A_LINE = 1 << 26
"""Bytes of an answer; a judge that never ends its line would otherwise fill the memory."""
_TAIL = 4096
_PATIENCE_S = 5.0
"""How long a judge may take to end once its input is closed."""


class ProcessChannel:
    """A program that answers on its standard output. See :class:`qsd.rewards.external_settings.Channel`.

    Args:
        name: of the judge, for messages.
        settings: command and time limits.
        device: torch device, for its environment.

    Raises:
        UserError: the program cannot be started.
    """

    def __init__(self, name: str, settings: RunSettings, device: str) -> None:
        self._what = f"judge '{name}' ({settings.place})"
        self._settings = settings
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the program
        self._received = b""
        environment = {key: value for key, value in os.environ.items() if key not in _OWN_VARIABLES}
        try:
            self._process = subprocess.Popen(
                settings.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=settings.place.parent,
                env={**environment, "QSD_DEVICE": device},
                bufsize=0,
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self._what}: cannot start {settings.command[0]} ({reason(error)}); correct 'command'"
            ) from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        for pipe in (self._input, self._output):
            os.set_blocking(pipe.fileno(), False)
        self.close = weakref.finalize(self, _end, self._process, self._errors)
        """Ends the program; called when the channel is no longer used, at the latest with this process."""

    def statement(self) -> Any:
        """See :class:`qsd.rewards.external_settings.Channel`."""
        return self._parsed(self._exchange(b"", self._settings.start_timeout_s, "start_timeout_s"))

    def ask(self, request: Mapping[str, Any]) -> Any:
        """See :class:`qsd.rewards.external_settings.Channel`."""
        line = json.dumps(request, ensure_ascii=False).encode() + b"\n"
        return self._parsed(self._exchange(line, self._settings.timeout_s, "timeout_s"))

    def _exchange(self, line: bytes, limit_s: float, setting: str) -> bytes:
        """Send a line, and receive the next one.

        Both at once: a program that writes before it has read all would otherwise wait for ever, and so would this.

        Raises:
            UserError: it ended, or the time is over.
        """
        deadline, unsent = time.monotonic() + limit_s, memoryview(line)
        with selectors.DefaultSelector() as ready:
            ready.register(self._output, selectors.EVENT_READ)
            if unsent:
                ready.register(self._input, selectors.EVENT_WRITE)
            while b"\n" not in self._received:
                left = deadline - time.monotonic()
                events = ready.select(left) if left > 0 else []
                if not events and left <= 0:
                    self.close()
                    raise UserError(
                        f"{self._what}: no answer within {limit_s:g} s; raise {setting}, or lower batch_size"
                    )
                for key, _ in events:
                    if key.fileobj is self._output:
                        self._receive()
                    else:
                        unsent = unsent[self._send(unsent) :]
                        if not unsent:
                            ready.unregister(self._input)
        received, _, self._received = self._received.partition(b"\n")
        return received

    def _send(self, unsent: memoryview) -> int:
        try:
            return self._input.write(unsent[:_CHUNK]) or 0
        except BrokenPipeError:
            raise self._ended() from None

    def _receive(self) -> None:
        part = self._output.read(_CHUNK)
        if part == b"":
            raise self._ended()
        self._received += part or b""
        if len(self._received) > _MOST_OF_A_LINE:
            self.close()
            raise UserError(f"{self._what}: an answer of more than {_MOST_OF_A_LINE:,} bytes without a line's end")

    def _ended(self) -> UserError:
        """The message about a program that ended, with the last line that it wrote to its standard error."""
        try:
            status = self._process.wait(_PATIENCE_S)
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        except subprocess.TimeoutExpired:
            how = "closed its output"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _TAIL))
        lines = self._errors.read().decode(errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing on its standard error")
        self.close()
        return UserError(f"{self._what}: it {how}: {last[:300]}")

    def _parsed(self, line: bytes) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            shown = line[:80].decode(errors="replace")
            raise UserError(
                f"{self._what}: wrote {shown!r} where a line of JSON was due; its program must write nothing else to "
                "its standard output"
            ) from None


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    """Close the program's input, which tells it to end, and end it if it does not."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # it has ended already
                continue
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    errors.close()
