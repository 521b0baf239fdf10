"""Two results of the HPS v2 benchmark side by side: the difference picture by picture.

Both have one picture per prompt, from the same initial noise, so the difference of two results is the mean of the
differences d of their scores, and its 95 % interval mean ± t(0.975, n - 1) · std(d) / sqrt(n) is over prompts. It is
narrower than what the spreads of the two results suggest, because hard prompts are hard for both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError
from qsd.evaluation.hps_measure import PICTURES, RESULT, SCORES
from qsd.files import read_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OF_THE_MODEL = {"adapter", "adapter.digest", "model.path", "files"}
"""What the pictures of two results may differ in."""


@dataclass(frozen=True)
class Difference:
    """Of a style or of all pictures, in hundredths of cosine; low and high bound the 95 % interval."""

    name: str
    mean: float
    low: float
    high: float
    pictures: int


def differences(output: Path, baseline: Path, scorer: str) -> list[Difference]:
    """``output`` minus ``baseline``, by style and over all pictures.

    Raises:
        UserError: the baseline has no result of this scorer, or it is of other weights, prompts, noise or settings.
    """
    import numpy as np

    _check(output, baseline, scorer)
    own, other = (read_table(folder / scorer / SCORES) for folder in (output, baseline))
    if own["prompt_id"].to_pylist() != other["prompt_id"].to_pylist() or own["caption"] != other["caption"]:
        raise UserError(f"--baseline {baseline}: its prompts are others; differences are taken prompt by prompt")
    change = 100.0 * (own["score"].to_numpy().astype(np.float64) - other["score"].to_numpy())
    styles = np.asarray(own["style"].to_pylist())
    names = list(dict.fromkeys(styles.tolist()))
    return [*(_of(name, change[styles == name]) for name in names), _of("overall", change)]


def lines(differences: list[Difference], baseline: Path) -> Iterator[str]:
    """The differences for people."""
    yield f"difference to {baseline}, prompt by prompt, 95 % interval over prompts"
    for item in differences:
        yield f"  {item.name:<14}{item.mean:+.2f} [{item.low:+.2f}, {item.high:+.2f}]   {item.pictures} pictures"


def _of(name: str, change: Any) -> Difference:
    import numpy as np
    from scipy.stats import t

    mean, count = float(change.mean()), len(change)
    half = float(t.ppf(0.975, count - 1) * change.std(ddof=1) / np.sqrt(count))
    return Difference(name, mean, mean - half, mean + half, count)


def _check(output: Path, baseline: Path, scorer: str) -> None:
    if not (baseline / scorer / RESULT).is_file():
        raise UserError(f"--baseline {baseline}: no {scorer}/{RESULT}; run the benchmark into it with the same scorer")
    own, other = (_json(folder / scorer / RESULT) for folder in (output, baseline))
    if own["revision"] != other["revision"]:
        raise UserError(
            f"--baseline {baseline}: scored by {scorer} of revision {other['revision']}, not {own['revision']}"
        )
    mine, theirs = (_json(folder / PICTURES) for folder in (output, baseline))
    if "files" in mine or "files" in theirs:
        return
    names = sorted({*mine, *theirs} - _OF_THE_MODEL)
    changed = [name for name in names if mine.get(name) != theirs.get(name)]
    if changed:
        raise UserError(f"--baseline {baseline}: its pictures were made with another {', '.join(changed)}")


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
