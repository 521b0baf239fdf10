"""The ``.wandb`` file of an offline run: set its times to those of the computation.

wandb measures how long its own process had the run open, which is how long the files took to be read. ``wandb sync``
uploads what the file says, so the file gets the times of the cell. wandb 0.31 has no reader for these files any more.

A file is the header ``:W&B``, two bytes 0xBEE1, and a version, then LevelDB's log format: blocks of 32 KiB, in them
parts of (CRC-32 of kind and data, length of the data, kind), where kind 1 is a whole record, 2 its first part, 3 a
middle one and 4 the last; fewer than seven bytes at the end of a block are zeros. A record is a protobuf.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

from qsd.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ablations.tracking.times import Times

_HEADER = b":W&B\xe1\xbe\x00"
_BLOCK = 32768
_PART = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(content: bytes) -> Iterator[bytes]:
    """The records of a file, in order.

    Raises:
        ValueError: it is no such file, it is damaged, or it ends within a record.
    """
    if not content.startswith(_HEADER):
        raise ValueError("not a file of an offline run of wandb 0.31")
    position, record = len(_HEADER), b""
    while position < len(content):
        if _BLOCK - position % _BLOCK < _PART.size:
            position += _BLOCK - position % _BLOCK
            continue
        if len(content) - position < _PART.size:
            raise ValueError(f"it ends within the part at byte {position}")
        checksum, length, kind = _PART.unpack_from(content, position)
        data = content[position + _PART.size : position + _PART.size + length]
        if len(data) < length or checksum != _checksum(kind, data):
            raise ValueError(f"damaged at byte {position}")
        position += _PART.size + length
        record = data if kind in (_WHOLE, _FIRST) else record + data
        if kind in (_WHOLE, _LAST):
            yield record


def file_of(all_records: Iterable[bytes]) -> bytes:
    """The file that has these records."""
    content = bytearray(_HEADER)
    for record in all_records:
        begun = False
        while True:
            room = _BLOCK - len(content) % _BLOCK
            if room < _PART.size:
                content += bytes(room)
                continue
            data, record = record[: room - _PART.size], record[room - _PART.size :]
            kind = (_MIDDLE if record else _LAST) if begun else (_FIRST if record else _WHOLE)
            content += _PART.pack(_checksum(kind, data), len(data), kind) + data
            begun = True
            if not record:
                break
    return bytes(content)


def set_times(path: Path, times: Times) -> None:
    """Replace the times in a finished file by those of the computation, in one step.

    The run starts at ``times.start`` (wandb's own start where that is not recorded) and takes ``times.own`` seconds.
    Rows have no times of their own; all get that of the end.

    Raises:
        ValueError: as :func:`records`, or the run has not ended.
    """
    from wandb.proto import wandb_internal_pb2 as protobuf

    changed: list[bytes] = []
    ended = False
    for record in records(path.read_bytes()):
        content: Any = protobuf.Record()  # type: ignore[attr-defined]
        content.ParseFromString(record)
        kind = content.WhichOneof("record_type")
        _set_times(content, kind, times)
        changed.append(content.SerializeToString())
        ended = ended or kind == "exit"
    if not ended:
        raise ValueError(f"{path}: wandb has not written the end of the run")
    write_bytes(path, file_of(changed))


def _set_times(content: Any, kind: str, times: Times) -> None:
    if kind == "run" and times.start is not None:
        content.run.start_time.FromMicroseconds(round(times.start * 1e6))
    elif kind == "exit":
        content.exit.runtime = round(times.own)
    elif kind == "summary":
        _set_items(content.summary.update, times)
    elif kind == "history":
        _set_items(content.history.item, times)


def _set_items(items: Any, times: Times) -> None:
    for item in items:
        name = "/".join(item.nested_key) or item.key
        if name in ("_runtime", "_wandb/runtime"):
            item.value_json = json.dumps(round(times.own))
        elif name == "_timestamp" and times.start is not None:
            item.value_json = json.dumps(times.start + times.own)


def _checksum(kind: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(bytes([kind])))
