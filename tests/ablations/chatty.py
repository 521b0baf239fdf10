"""A library that prints when it is imported, on the stream of C and on that of Python, if ``FAKE_CHATTY`` is set."""

from __future__ import annotations

import os

if os.environ.get("FAKE_CHATTY"):
    print("welcome to this library!", flush=True)
    os.write(1, b"a line of C\n" * 50)
