"""``summary.json`` of a selection: how much was kept, of what, and what it looks like beside all pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.data.distinct import distinct_count, numbers
from qsd.selection.pairs import codes, dictionary
from qsd.selection.strata import styles

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from qsd.selection.strategies import Chosen

QUANTILES = (0, 5, 25, 50, 75, 95, 100)


def summary(pairs: pa.Table, quality: NDArray[np.float64], chosen: Chosen) -> dict[str, Any]:
    """Numbers of the kept pairs, and with ``_of`` in their name of all that could have been kept.

    ``effective_pairs`` is (Σ weight)² / Σ weight², ``draws`` the sum of whole weights (sampling with replacement),
    ``contradicted`` the share of the pairs whose loser has the higher score, ``quality_percentiles`` are of Q where the
    strategy uses it, ``styles`` counts pairs by the style that their caption names, where any does.

    Args:
        pairs: all N that could have been kept, as ``read_pairs`` has them.
        quality: Q [N], NaN where the strategy ignores it.
        chosen: of these pairs.
    """
    import numpy as np

    rows, weights = chosen.rows, chosen.weights
    kept = pairs.take(rows)
    images = numbers(pairs["winner_uid"], pairs["loser_uid"]).reshape(2, -1)
    content: dict[str, Any] = {
        "kept": len(rows),
        "of": pairs.num_rows,
        "effective_pairs": float(weights.sum() ** 2 / (weights**2).sum()),
        **({"draws": int(weights.sum())} if (weights > 1).any() and (weights == np.round(weights)).all() else {}),
        **_both("unique_captions", kept, pairs, lambda table: _different(table, "caption")),
        "unique_images": distinct_count(images[:, rows]),
        "unique_images_of": distinct_count(images),
        "unique_winner_images": distinct_count(images[0, rows]),
        "unique_winner_images_of": distinct_count(images[0]),
    }
    if pairs["annotator_id"].null_count < pairs.num_rows:
        content.update(_both("annotators", kept, pairs, lambda table: _different(table, "annotator_id")))
    if "winner_score" in pairs.column_names:
        content["scorer"] = pairs["scorer"][0].as_py()
        for name in ("winner_score", "loser_score"):
            content.update(_both(f"mean_{name}", kept, pairs, lambda table, name=name: _mean(table, name)))
        content.update(_both("contradicted", kept, pairs, _contradicted))
    if np.isfinite(quality).all():
        for name, values in (("quality_percentiles", quality[rows]), ("quality_percentiles_of", quality)):
            content[name] = dict(zip(map(str, QUANTILES), np.percentile(values, QUANTILES).tolist(), strict=True))
    return {**content, **_styles(pairs, rows)}


def _both(name: str, kept: pa.Table, pairs: pa.Table, count: Any) -> dict[str, Any]:
    return {name: count(kept), f"{name}_of": count(pairs)}


def _different(table: pa.Table, name: str) -> int:
    """How many different values a dictionary column has, null not counted."""
    return len(dictionary(table, name).indices.drop_null().unique())


def _mean(table: pa.Table, name: str) -> float:
    import pyarrow as pa
    import pyarrow.compute as pc

    return float(pc.mean(table[name].cast(pa.float64())).as_py())


def _contradicted(table: pa.Table) -> float:
    winner, loser = table["winner_score"].to_numpy(), table["loser_score"].to_numpy()
    return float((loser > winner).mean())


def _styles(pairs: pa.Table, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Pairs by style, kept and all; empty where no caption names a style."""
    import numpy as np

    names = styles(dictionary(pairs, "caption").dictionary)
    if names is None:
        return {}
    known, style = np.unique(names, return_inverse=True)
    of_pair = style[codes(pairs, "caption")]
    counts = (np.bincount(which, minlength=len(known)).tolist() for which in (of_pair[rows], of_pair))
    pair_counts = zip(*counts, strict=True)
    return {"styles": {str(name): {"kept": k, "of": n} for name, (k, n) in zip(known, pair_counts, strict=True) if n}}
