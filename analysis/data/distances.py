"""Rows of the scorer ``distance_to_base``: how far each image of a trained cell is from the base model's.

They depend on two evaluations, so that no stage can write them: they are computed from ``embeddings.parquet`` of both
whenever tables are made (``qsd.evaluation.embedding_measures`` has the formula).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from analysis.data.sweep import Replicate, SweepFolder, artefact
from qsd.errors import UserError
from qsd.evaluation.embedding_measures import DISTANCE_TO_BASE, DIVERSITY, UNIT, distances
from qsd.evaluation.embeddings import Embeddings, read_embeddings
from qsd.files import texts

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class Distances:
    """The distances of a sweep's cells to their base models.

    Attributes:
        sweep: without ``distance_to_base`` among the scorers of cells whose base model is not evaluated.
    """

    def __init__(self, runs: Path, sweep: SweepFolder) -> None:
        self._bases = {
            replicate.name: folder
            for replicate in sweep.replicates
            if replicate.role == "base" and (folder := artefact(runs, "evaluate", replicate.stages.get("evaluate")))
        }
        self._embeddings: dict[Path, Embeddings] = {}
        self.sweep = replace(sweep, replicates=tuple(self._measurable(replicate) for replicate in sweep.replicates))

    def _measurable(self, replicate: Replicate) -> Replicate:
        if replicate.base in self._bases:
            return replicate
        scorers = tuple(scorer for scorer in replicate.scorers if scorer != DISTANCE_TO_BASE)
        return replace(replicate, scorers=scorers)

    def rows(self, replicate: Replicate, folder: Path, scores: pa.Table) -> pa.Table | None:
        """A row per image of an evaluated replicate; None where its cell has no such measure, or its base no images.

        Args:
            replicate: as in ``cells.json``.
            folder: of its evaluation.
            scores: those of the evaluation; its revision of ``diversity`` is that of the rows.

        Raises:
            UserError: no embeddings, or other images than those of the base model.
        """
        base = self._bases.get(replicate.base)
        if base is None or DISTANCE_TO_BASE not in replicate.scorers:
            return None
        own, other = read_embeddings(folder), self._of_base(base)
        images = own.images()
        place = {image: number for number, image in enumerate(other.images())}
        if set(place) != set(images) or own.vectors.shape[1:] != other.vectors.shape[1:]:
            raise UserError(
                f"cell {replicate.label} and its base model '{replicate.base}' have embeddings of other images or "
                "another length; evaluate both on the same prompts and images"
            )
        values = distances(own.vectors, other.vectors[[place[image] for image in images]])
        return _table(own.about, values, _revision(scores))

    def _of_base(self, folder: Path) -> Embeddings:
        """The embeddings of a base model, which all cells of a sweep share."""
        if folder not in self._embeddings:
            self._embeddings[folder] = read_embeddings(folder)
        return self._embeddings[folder]


def _revision(scores: pa.Table) -> str:
    """That of the diversity, which the same vectors and formulas make."""
    scorers, revisions = (texts(scores[name].cast(pa.string())) for name in ("scorer", "revision"))
    return dict(zip(scorers, revisions, strict=True))[DIVERSITY]


def _table(about: pa.Table, values: NDArray[np.float64], revision: str) -> pa.Table:
    """The rows of the images ``about``, in the columns that ``analysis.data.load`` has of every score."""
    text: dict[str, Any] = {name: about[name].combine_chunks() for name in ("prompt_id", "split", "caption")}
    text |= {
        name: pa.array([value] * len(values))
        for name, value in (("scorer", DISTANCE_TO_BASE), ("revision", revision), ("unit", UNIT))
    }
    numbers = {"image_index": about["image_index"].cast(pa.int64()), "score": pa.array(values)}
    return pa.table({name: column.dictionary_encode() for name, column in text.items()} | numbers)
