"""``ablate gc`` for a user: the listing, and what was freed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.formatting import format_bytes
from ablations.recovery.gc import KINDS, delete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ablations.recovery.gc import Garbage, Item
    from ablations.store.artefacts import Store

_LARGEST = 3


def lines(garbage: Garbage) -> Iterator[str]:
    """Per kind the number, size and largest of its items; then the total."""
    for note in garbage.notes:
        yield f"note: {note}"
    if not garbage.items:
        yield "nothing to free"
        return
    for kind, what in KINDS.items():
        items = [item for item in garbage.items if item.kind == kind]
        if not items:
            continue
        yield f"{kind:10} {len(items):7,} {format_bytes(_total(items)):>9}  {what}"
        for item in sorted(items, key=lambda item: item.bytes, reverse=True)[:_LARGEST]:
            yield f"{'':18} {format_bytes(item.bytes):>9}    {item.path}"
        if len(items) > _LARGEST:
            yield f"{'':18} {'':>9}    ... (--json lists all)"
    yield f"{'all':10} {len(garbage.items):7,} {format_bytes(_total(garbage.items)):>9}"


def as_json(garbage: Garbage) -> dict[str, Any]:
    """Everything as plain values."""
    items = [{"kind": item.kind, "path": str(item.path), "bytes": item.bytes} for item in garbage.items]
    return {"items": items, "bytes": _total(garbage.items), "notes": list(garbage.notes)}


def free(store: Store, garbage: Garbage) -> str:
    """Delete all items whose stage is still not claimed; a sentence about what was done."""
    freed = [item for item in garbage.items if delete(store, item)]
    kept = len(garbage.items) - len(freed)
    text = f"freed {format_bytes(_total(freed))} in {len(freed):,} items"
    return f"{text}; {kept} kept, since another process works there now" if kept else text


def _total(items: list[Item] | tuple[Item, ...]) -> int:
    return sum(item.bytes for item in items)
