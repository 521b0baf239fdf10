"""A judge as a server: what it is by GET, scores by POST, both as JSON, at one address."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError, reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qsd.rewards.external_settings import RunSettings

_MOST_BYTES = 1 << 26
"""Of an answer."""


class HttpChannel:
    """A server that answers requests. See :class:`qsd.rewards.external_settings.Channel`.

    Args:
        name: of the judge, for messages.
        settings: address and time limits.
    """

    def __init__(self, name: str, settings: RunSettings) -> None:
        self._what = f"judge '{name}' ({settings.place})"
        self._settings = settings

    def statement(self) -> Any:
        """See :class:`qsd.rewards.external_settings.Channel`."""
        return self._open(None, self._settings.start_timeout_s, "start_timeout_s")

    def ask(self, request: Mapping[str, Any]) -> Any:
        """See :class:`qsd.rewards.external_settings.Channel`."""
        return self._open(json.dumps(request, ensure_ascii=False).encode(), self._settings.timeout_s, "timeout_s")

    def _open(self, body: bytes | None, limit_s: float, setting: str) -> Any:
        from urllib.error import HTTPError, URLError
        from urllib.request import Request, urlopen

        url = self._settings.url
        request = Request(url, data=body, headers={"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=limit_s) as answer:
                content = answer.read(_MOST_BYTES + 1)
        except TimeoutError:
            raise self._too_slow(limit_s, setting) from None
        except HTTPError as error:
            detail = " ".join(error.read(300).decode(errors="replace").split())
            raise UserError(f"{self._what}: {url} answers with status {error.code}: {detail or error.reason}") from None
        except (URLError, OSError, ValueError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, TimeoutError):
                raise self._too_slow(limit_s, setting) from None
            why = reason(cause) if isinstance(cause, BaseException) else str(cause)
            raise UserError(
                f"{self._what}: {url} cannot be reached ({why}); start the server, or correct 'url'"
            ) from None
        if len(content) > _MOST_BYTES:
            raise UserError(f"{self._what}: an answer of more than {_MOST_BYTES:,} bytes")
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            shown = content[:80].decode(errors="replace")
            raise UserError(f"{self._what}: {url} answers {shown!r}, which is not JSON") from None

    def _too_slow(self, limit_s: float, setting: str) -> UserError:
        return UserError(f"{self._what}: no answer within {limit_s:g} s; raise {setting}, or lower batch_size")
