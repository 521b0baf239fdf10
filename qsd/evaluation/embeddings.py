"""``embeddings.parquet`` of stage evaluate: the embedding of every generated image.

Columns: prompt_id, split, caption and image_index as in ``scores.parquet``, and vector, a list of D float32 numbers of
length 1. A vector of 1,024 numbers takes 4 kB, about a hundredth of an image of 512 pixels, so nothing is rounded to
save space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qsd.evaluation.embedding_measures import diversity
from qsd.files import read_table, texts, write_table
from qsd.scoring.vectors import vector_column, vectors_of

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

FILE = "embeddings.parquet"
_ABOUT = ["prompt_id", "split", "caption", "image_index"]


@dataclass(frozen=True)
class Embeddings:
    """The N images of one evaluation.

    Attributes:
        about: a row per image: prompt_id, split, caption, image_index.
        vectors: [N, D], in the order of these rows.
    """

    about: pa.Table
    vectors: NDArray[np.float32]

    def images(self) -> list[tuple[str, int]]:
        """(prompt id, image index) of every image."""
        numbers: list[int] = self.about["image_index"].to_numpy().tolist()
        return list(zip(texts(self.about["prompt_id"]), numbers, strict=True))

    def diversity(self) -> NDArray[np.float32]:
        """[N]: the mean distance of each image to the others of its prompt.

        Raises:
            ValueError: a prompt has one image.
        """
        places: dict[str, list[int]] = {}
        for place, (prompt, _) in enumerate(self.images()):
            places.setdefault(prompt, []).append(place)
        values = np.empty(len(self.vectors), dtype=np.float32)
        for of_prompt in places.values():
            values[of_prompt] = diversity(self.vectors[of_prompt])
        return values


def write_embeddings(folder: Path, embeddings: Embeddings) -> None:
    """Write the file into the folder of an evaluation, in one step."""
    table = embeddings.about.select(_ABOUT).append_column("vector", vector_column(embeddings.vectors))
    write_table(folder / FILE, table)


def read_embeddings(folder: Path) -> Embeddings:
    """The file of an evaluation.

    Raises:
        UserError: it is missing, damaged, or lacks a column.
    """
    table = read_table(folder / FILE, [*_ABOUT, "vector"])
    return Embeddings(table.select(_ABOUT), vectors_of(table["vector"]))
