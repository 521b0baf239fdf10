"""Images ahead of the model: read in the order of the source, decoded and resized by threads, stacked into batches.

Pillow decodes and resizes without holding Python's lock, so threads suffice. At most ``AHEAD`` batches are under way
beside the one in use, whatever the data set's size: memory is bounded by (AHEAD + 1) batches of pixels and of files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from qsd.data.images import ImageSource, decode
from qsd.rewards.preprocess import Preprocess
from qsd.rewards.requests import Requests
from qsd.scoring.shards import Piece

AHEAD = 2
"""Batches that are read and decoded while another is scored."""

Pixels = Tensor | list[Tensor]
"""Of N images: [N, 3, S, S], or N tensors [3, H, W] where images that are not resized differ in size."""

_Prepared = dict["Preprocess", "Tensor"]


@dataclass(frozen=True)
class Loaded:
    """The images of the requests ``first`` to ``last - 1``, by preprocessing."""

    first: int
    last: int
    pixels: Mapping[Preprocess, Pixels]

    def on(self, device: str, preprocess: Preprocess) -> list[Tensor]:
        """The pixels of each image on a torch device; from page-locked memory the copy is not waited for."""
        pixels = self.pixels[preprocess]
        if isinstance(pixels, Tensor):  # one copy for all
            return list(pixels.to(device, non_blocking=True))
        return [image.to(device, non_blocking=True) for image in pixels]


def prefetch(
    images: ImageSource,
    requests: Requests,
    batches: Iterable[Piece],
    preprocesses: Sequence[Preprocess],
    workers: int,
    pin: bool = False,
) -> Iterator[Loaded]:
    """The images of ``batches``, in their order; close it to stop early.

    Args:
        images: of the source; read by one thread.
        requests: what is to be scored.
        batches: which requests; asked for as they are needed. An image that one batch ends with and the
            next begins with is decoded once.
        preprocesses: how the pixels are wanted, each different one once.
        workers: threads that decode and resize.
        pin: into page-locked memory, from which a GPU copies quickly.

    Raises:
        UserError: an image does not decode.
    """
    loader = _Loader(images, requests, tuple(dict.fromkeys(preprocesses)), workers, pin)
    upcoming: deque[Future[Loaded]] = deque()
    try:
        for first, last in batches:
            upcoming.append(loader.load(first, last))
            if len(upcoming) > AHEAD:
                yield upcoming.popleft().result()
        while upcoming:
            yield upcoming.popleft().result()
    finally:
        loader.close()


class _Loader:
    """Three kinds of threads: one reads files, some decode them, one makes batches."""

    def __init__(
        self,
        images: ImageSource,
        requests: Requests,
        preprocesses: tuple[Preprocess, ...],
        workers: int,
        pin: bool,
    ) -> None:
        self._images, self._requests = images, requests
        self._preprocesses, self._pin = preprocesses, pin
        self._reader = ThreadPoolExecutor(1, "read")
        self._decoders = ThreadPoolExecutor(workers, "decode")
        self._stacker = ThreadPoolExecutor(1, "stack")
        self._latest: tuple[int, Future[_Prepared]] | None = None

    def load(self, first: int, last: int) -> Future[Loaded]:
        """Begin to load a batch."""
        return self._stacker.submit(self._stacked, first, last, self._reader.submit(self._read, first, last))

    def close(self) -> None:
        """Drop what has not begun and wait for the rest."""
        # Cancel in all three before waiting for any: each feeds the next.
        for threads in (self._stacker, self._reader, self._decoders):
            threads.shutdown(wait=False, cancel_futures=True)
        for threads in (self._reader, self._decoders, self._stacker):
            threads.shutdown(wait=True)

    def _read(self, first: int, last: int) -> list[Future[_Prepared]]:
        """One decoding per request; requests of the same image, which follow each other, share it."""
        decodings = []
        for number in self._requests.images[first:last].tolist():
            if self._latest is None or self._latest[0] != number:
                data = self._images.bytes_of(number)
                self._latest = number, self._decoders.submit(self._prepared, number, data)
            decodings.append(self._latest[1])
        return decodings

    def _prepared(self, number: int, data: bytes) -> _Prepared:
        try:
            image = decode(data)
        except ValueError as error:
            raise self._images.unreadable(number, error) from None
        return {preprocess: preprocess.one(image) for preprocess in self._preprocesses}

    def _stacked(self, first: int, last: int, read: Future[list[Future[_Prepared]]]) -> Loaded:
        prepared = [decoded.result() for decoded in read.result()]
        return Loaded(
            first,
            last,
            {preprocess: self._batch([one[preprocess] for one in prepared]) for preprocess in self._preprocesses},
        )

    def _batch(self, images: list[Tensor]) -> Pixels:
        if len({image.shape for image in images}) > 1:
            return [image.pin_memory() for image in images] if self._pin else images
        batch = torch.stack(images)
        return batch.pin_memory() if self._pin else batch
