"""Read wandb's offline files: LevelDB log framing around protobuf records."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEADER, BLOCK, PREFIX = 7, 32768, 7
FULL, FIRST, _MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    runtime: int | None = None
    artefacts: dict[str, list[str]] = field(default_factory=dict)
    """Name -> the files in it."""


def payloads(content: bytes):
    assert content[:4] == b":W&B"
    position, parts = HEADER, b""
    while position + PREFIX <= len(content):
        left = BLOCK - position % BLOCK
        if left < PREFIX:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + PREFIX])
        data = content[position + PREFIX : position + PREFIX + length]
        position += PREFIX + length
        parts = data if kind in (FULL, FIRST) else parts + data
        if kind in (FULL, LAST):
            yield parts


def key_of(item: Any) -> str:
    return "/".join(item.nested_key) if item.nested_key else item.key


def read_run(path: Path) -> OfflineRun:
    from wandb.proto import wandb_internal_pb2 as pb

    run = OfflineRun()
    for payload in payloads(path.read_bytes()):
        record = pb.Record()
        record.ParseFromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.run = record.run
            run.config |= {key_of(item): json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            run.history.append({key_of(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            run.summary |= {key_of(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "exit":
            run.exit_code, run.runtime = record.exit.exit_code, record.exit.runtime
        elif kind == "artifact":
            run.artefacts[record.artifact.name] = [entry.path for entry in record.artifact.manifest.contents]
    return run
