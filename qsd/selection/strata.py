"""Strata of pairs: by the style that a caption names, or by clusters of the captions' words.

A style is what captions such as ``a red heart, noto style`` end with. Clusters come from the words alone, without any
model: term frequency times inverse document frequency of words hashed to 1,024 numbers, then spherical k-means with
fixed starts. Both are functions of the set of distinct captions, whatever the order or the number of the pairs.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

NO_STYLE = "no style"
STYLE = r",\s*(?P<style>[^,]+?) style\s*$"
HASHED_WORDS = 1024
SAMPLE = 20_000
"""Captions on which the clusters are fitted; all others are assigned."""
ROUNDS = 25
_WORD = re.compile(r"\w+")


def styles(captions: pa.Array[Any]) -> list[str] | None:
    """The style of each caption, ``no style`` for one that names none; None where no caption names one."""
    import pyarrow.compute as pc

    matched = pc.extract_regex(captions, STYLE)
    if matched.null_count == len(captions):
        return None
    names: list[str] = pc.fill_null(pc.struct_field(matched, "style"), NO_STYLE).to_pylist()
    return names


def strata(captions: pa.Array[Any], clusters: int | None) -> NDArray[np.int64]:
    """Number of the stratum of each distinct caption [M].

    Args:
        captions: distinct captions.
        clusters: number of clusters of words; None for the styles that captions name.

    Raises:
        UserError: no caption names a style, or there are fewer distinct captions than clusters.
    """
    import numpy as np

    if clusters is None:
        names = styles(captions)
        if names is None:
            raise UserError(
                "no caption names a style ('…, <name> style'), so there are no strata; set selection.prompt_clusters, "
                "for example to 16"
            )
        return np.unique(names, return_inverse=True)[1].astype(np.int64)
    if clusters > len(captions):
        raise UserError(
            f"selection.prompt_clusters is {clusters}, but there are {len(captions)} distinct captions; lower it"
        )
    words = captions.to_pylist()
    order = np.argsort(np.asarray(words, dtype=np.str_), kind="stable")  # so that the order of the rows does not matter
    numbers = np.empty(len(words), dtype=np.int64)
    numbers[order] = _clusters(_tf_idf([words[place] for place in order]), clusters)
    return numbers


def _tf_idf(captions: Sequence[str]) -> csr_matrix:
    """Rows [M, 1024] of length 1, of (1 + log count) · log((1 + M) / (1 + captions with it)); 0 without words."""
    import numpy as np
    from scipy.sparse import csr_matrix

    known: dict[str, int] = {}
    columns: list[int] = []
    ends = [0]
    for caption in captions:
        for word in _WORD.findall(caption.lower()):
            if word not in known:
                known[word] = zlib.crc32(word.encode()) % HASHED_WORDS
            columns.append(known[word])
        ends.append(len(columns))
    table = csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(captions), HASHED_WORDS))
    table.sum_duplicates()
    captions_with = np.bincount(table.indices, minlength=HASHED_WORDS)
    table.data = (1 + np.log(table.data)) * np.log((1 + len(captions)) / (1 + captions_with))[table.indices]
    lengths = np.sqrt(np.asarray(table.multiply(table).sum(axis=1)).ravel())
    table.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(table.indptr))
    return table


def _clusters(rows: csr_matrix, count: int) -> NDArray[np.int64]:
    """Spherical k-means [M]: fitted on evenly spaced rows, k-means++ starts, seed 0; then each row to its nearest."""
    import numpy as np

    sample = rows[np.linspace(0, rows.shape[0] - 1, min(SAMPLE, rows.shape[0])).astype(np.int64)]
    centres = _starts(sample, count)
    nearest = np.full(sample.shape[0], -1)
    for _ in range(ROUNDS):
        before, nearest = nearest, np.asarray(sample @ centres.T).argmax(axis=1)
        if np.array_equal(before, nearest):
            break
        for number in range(count):
            total = np.asarray(sample[nearest == number].sum(axis=0)).ravel()
            length = np.sqrt((total**2).sum())
            centres[number] = total / length if length > 0 else centres[number]  # an empty cluster keeps its place
    numbers: NDArray[np.int64] = np.asarray(rows @ centres.T).argmax(axis=1).astype(np.int64)
    return numbers


def _starts(sample: csr_matrix, count: int) -> NDArray[np.float64]:
    """Centres [count, 1024]: each next one drawn with odds 1 - (its highest cosine to those before)."""
    import numpy as np

    rng = np.random.default_rng(0)
    chosen = [int(rng.integers(sample.shape[0]))]
    far = np.ones(sample.shape[0])
    while len(chosen) < count:
        centre = sample[chosen[-1]].toarray().ravel()
        far = np.minimum(far, np.clip(1 - sample @ centre, 0, None))
        odds = far if far.sum() > 0 else np.ones(len(far))
        chosen.append(int(rng.choice(len(odds), p=odds / odds.sum())))
    return np.asarray(sample[chosen].toarray())
