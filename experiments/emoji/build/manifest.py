"""Step: hashes of every shipped file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from experiments.emoji.build.world import RESOLUTION, World

CELL = 2 * RESOLUTION
COLUMNS = 12


def entries(assets: Path) -> dict[str, dict[str, object]]:
    """Size and SHA-256 of every file below ``assets`` but the manifest itself, by relative name."""
    files = sorted(path for path in assets.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {
        path.relative_to(assets).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }


def differences(assets: Path) -> list[str]:
    """Names of files that the manifest does not describe as they are."""
    stated = json.loads((assets / "manifest.json").read_text(encoding="utf-8"))
    present = entries(assets)
    return sorted(name for name in stated.keys() | present.keys() if stated.get(name) != present.get(name))


def build(world: World) -> None:
    """Write ``manifest.json`` and print the total size."""
    files = entries(world.assets)
    (world.assets / "manifest.json").write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")
    total = sum(path.stat().st_size for path in world.assets.rglob("*") if path.is_file())
    print(f"assets: {len(files)} files, {total / 1e6:.1f} MB")
