"""What messages quote of an error from elsewhere: one line, whatever it says."""

from __future__ import annotations

import pytest

from qsd.errors import first_line, reason


@pytest.mark.parametrize(
    "error, line, why",
    [
        (OSError("no space\nleft"), "no space", "no space"),
        (ValueError("\n  wrong size\r\nof a tensor\n"), "wrong size", "wrong size"),
        (EOFError(), "", "EOFError"),
        (KeyboardInterrupt(" \n "), "", "KeyboardInterrupt"),
    ],
)
def test_an_error_in_a_line(error: BaseException, line: str, why: str) -> None:
    assert (first_line(error), reason(error)) == (line, why)
