"""open_clip for the fork server, without timm.

open_clip imports timm for image towers that are refused here (``qsd.rewards.clip``), and does without it where it is
not installed. timm imports W&B: together a tenth of the time in which the fork server starts.
"""

from __future__ import annotations

import sys

if "timm" not in sys.modules:
    sys.modules["timm"] = None  # type: ignore[assignment]  # how Python marks a module that is not there
    try:
        import open_clip.model  # noqa: F401
    finally:
        del sys.modules["timm"]
