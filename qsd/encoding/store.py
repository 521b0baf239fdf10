"""The artefact of the encode stage, and how training reads it.

latents-00000.npy          fp32 [rows, variants, 2, C, h, w]: mean and standard deviation of the VAE's posterior,
                           scaled; one variant, or two when training flips: as it is, mirrored. NaN marks a
                           rejected image.
<field>-00000.npy          fp32 [rows, ...]: one array per field of the conditioning, row 0 being the empty caption
images.parquet             uid; the row is the position
captions.parquet           caption; the row is the position
pairs.parquet              pair_id, winner_row, loser_row, caption_row; pairs with a rejected image are left out
summary.json               counts, fields, latent shape, digest of the data stage's pairs
problems.json              rejected images by reason
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qsd.encoding.shards import ArrayShards
from qsd.errors import UserError
from qsd.files import read_table, texts

EMPTY_CAPTION_ROW = 0
"""Where the empty caption is, which stands for a dropped one."""


@dataclass(frozen=True)
class PairRows:
    """Rows of the images and captions of N pairs, int64 [N] each."""

    winner: npt.NDArray[np.int64]
    loser: npt.NDArray[np.int64]
    caption: npt.NDArray[np.int64]

    def swapped(self, where: npt.NDArray[np.bool_]) -> PairRows:
        """The same pairs with winner and loser exchanged where ``where``, [N], is True."""
        winner, loser = np.where(where, self.loser, self.winner), np.where(where, self.winner, self.loser)
        return PairRows(winner, loser, self.caption)


class EncodedPairs:
    """Random access to an encode artefact.

    Raises:
        UserError: a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        summary = _summary(folder)
        self.latent_shape: tuple[int, ...] = tuple(summary["latent_shape"])
        self.variants: int = summary["variants"]
        self.data_digest: str = summary["data_digest"]
        self._latents = ArrayShards(folder, "latents", summary["images"])
        self._conditioning = {field: ArrayShards(folder, field, summary["captions"]) for field in summary["fields"]}
        self._pairs: pa.Table = read_table(folder / "pairs.parquet")

    @property
    def pair_ids(self) -> list[str]:
        """All encoded pairs, in the order of the source."""
        return texts(self._pairs["pair_id"])

    def find(self, pair_ids: Sequence[str]) -> tuple[npt.NDArray[np.bool_], PairRows]:
        """([N] whether each of N pairs is encoded, the rows of those that are)."""
        places = pc.index_in(pa.array(pair_ids, pa.string()), value_set=self._pairs["pair_id"].combine_chunks())
        encoded = np.asarray(pc.is_valid(places))
        pairs = self._pairs.take(places.drop_null())
        rows = (pairs[name].to_numpy().astype(np.int64) for name in ("winner_row", "loser_row", "caption_row"))
        return encoded, PairRows(*rows)

    def posterior(
        self, rows: npt.NDArray[np.int64], mirrored: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Mean and standard deviation of some images' latents, [B, C, h, w] each."""
        stored = self._latents.take(rows)[np.arange(len(rows)), mirrored.astype(np.int64)]
        return stored[:, 0], stored[:, 1]

    def conditioning(self, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float32]]:
        """The conditioning of some captions by field, [B, ...] each."""
        return {field: shards.take(rows) for field, shards in self._conditioning.items()}


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    try:
        summary: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise UserError(f"{path}: missing or damaged; is the folder an artefact of the encode stage?") from None
    if "data_digest" not in summary:
        raise UserError(f"{path}: no data_digest; an older version wrote it, so run the encode stage again")
    return summary
