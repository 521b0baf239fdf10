"""Shards of images, compressed by threads while the device draws the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from PIL import Image

from qsd.generation.generator import Wanted
from qsd.generation.images import webp, write_shard
from qsd.runtime import Interrupted


@dataclass(frozen=True)
class _Drawn:
    """A shard whose images are drawn, and may not be compressed yet."""

    path: Path
    wanted: Sequence[Wanted]
    files: Sequence[Future[bytes]]

    def is_compressed(self) -> bool:
        return all(file.done() for file in self.files)

    def write(self) -> None:
        write_shard(self.path, self.wanted, [file.result() for file in self.files])


class ShardWriter:
    """A context in which images are compressed by threads and written shard by shard, in order, with the same bytes.

    Every shard is written when the context ends, also if that is because the stage was asked to stop. At most one
    shard waits while the next one is drawn, so a process that is killed has lost no more than two.

    Args:
        workers: threads that compress.
    """

    def __init__(self, workers: int) -> None:
        self._threads = ThreadPoolExecutor(workers, "compress")
        self._waiting: deque[_Drawn] = deque()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Write what waits, unless there was an error: then it is drawn again like all that was not written."""
        try:
            if error is None or isinstance(error, Interrupted):
                self._write(most=0)
        finally:
            self._threads.shutdown(cancel_futures=True)

    def compress(self, images: Sequence[Image.Image]) -> list[Future[bytes]]:
        """Begin to compress some images of the shard that is being drawn; writes an earlier one that is ready."""
        files = [self._threads.submit(webp, image) for image in images]
        while self._waiting and self._waiting[0].is_compressed():
            self._waiting.popleft().write()
        return files

    def add(self, path: Path, wanted: Sequence[Wanted], files: Sequence[Future[bytes]]) -> None:
        """A shard of which everything is drawn; waits until all before it are written."""
        self._waiting.append(_Drawn(path, wanted, files))
        self._write(most=1)

    def _write(self, most: int) -> None:
        """Write shards, the oldest first, until at most ``most`` wait."""
        while len(self._waiting) > most:
            self._waiting.popleft().write()
