"""How good the step reward of Eq. 12 is: relative error, bias, rank correlation, and the order of pairs of candidates.

With estimate e and truth v of each state (v with a standard error s, since it is a mean over rollouts):

    relative error   mean |e - v| / |v|                    noise of it: mean √(2/π) s / |v|, that of a perfect estimate
    bias             mean (e - v)
    rank             Spearman's correlation of e and v over the states
    order            share of pairs of candidates with sign(e_0 - e_1) = sign(v_0 - v_1); a tie counts half

The truth has noise, so a perfect step reward does not reach an order of 1. Two independent halves of the rollouts agree
on the order of some share of the pairs; a perfect step reward agrees with the mean of all rollouts at least as often,
so an order below that share is a fault of the estimate and not of the noise. ``clear`` is the order over the pairs
whose truths are more than two standard errors apart.

Intervals are of 95 %: percentile bootstrap over groups (the two states of one x_{t+1}), and Wilson's for shares.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CANDIDATES = 2
"""States of the same x_{t+1}: a group of rows."""
RESAMPLES = 2000
_Z = 1.959964
_CLEAR = 2.0
"""Standard errors of a difference."""


@dataclass(frozen=True)
class ValueWithInterval:
    """A number with its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """The states with the same number of steps left.

    Attributes:
        steps_left: of the sampler.
        states: with a finite estimate and a finite truth.
        left_out: other states, whose estimate or all of whose rollouts have no finite reward.
        not_finite: rollouts without a finite reward, which no truth contains.
        reward: mean truth.
        spread: population standard deviation of the truths over states.
        relative_error: see above.
        relative_noise: see above.
        error: mean |e - v|, in the unit of the reward.
        bias: likewise.
        rank: see above.
        pairs: groups with two such states.
        order: see above.
        halves: share of the pairs that two halves of the rollouts order the same way.
        clear_pairs: of them.
        clear: see above.
    """

    steps_left: int
    states: int
    left_out: int
    not_finite: int
    reward: float
    spread: float
    relative_error: ValueWithInterval
    relative_noise: float
    error: ValueWithInterval
    bias: ValueWithInterval
    rank: ValueWithInterval
    pairs: int
    order: ValueWithInterval
    halves: float
    clear_pairs: int
    clear: ValueWithInterval

    def row(self) -> dict[str, Any]:
        """One row of a table: intervals as ``name``, ``name_low``, ``name_high``."""
        row: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if isinstance(value, dict):
                row |= {name: value["value"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
            else:
                row[name] = value
        return row


def truths(rewards: Floats) -> tuple[Floats, Floats]:
    """Mean of the finite ones of R rewards, and its standard error, [..., R] -> [...] each; NaN where too few are."""
    finite = np.isfinite(rewards)
    count = finite.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(finite, rewards, 0).sum(axis=-1) / count
        squares = np.where(finite, (rewards - mean[..., None]) ** 2, 0).sum(axis=-1)
        return mean, np.sqrt(squares / (count - 1) / count)


def summarise(states: pa.Table) -> list[Summary]:
    """A summary for each number of steps left, the most first.

    Args:
        states: as written by ``qsd.evaluation.step_reward``; the two states of a group follow one another.
    """
    lefts = states["steps_left"].to_numpy()
    estimates = states["estimate"].to_numpy().astype(np.float64)
    rewards = np.asarray(states["rewards"].to_pylist(), dtype=np.float64)
    return [
        _of(int(left), estimates[lefts == left].reshape(-1, 2), _groups(rewards[lefts == left]))
        for left in sorted(set(lefts.tolist()), reverse=True)
    ]


def _groups(rewards: Floats) -> Floats:
    return rewards.reshape(-1, 2, rewards.shape[-1])


def _of(left: int, estimate: Floats, rewards: Floats) -> Summary:
    """The summary of G groups: estimates [G, 2], rewards of rollouts [G, 2, R]."""
    truth, error = truths(rewards)
    known = np.isfinite(estimate) & np.isfinite(truth)
    # What is left out is no number from here on, so that it drops out of every mean.
    estimate, truth = np.where(known, estimate, np.nan), np.where(known, truth, np.nan)
    difference = estimate - truth
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(difference == 0, 0.0, np.abs(difference) / np.abs(truth))
        noise = np.where(error == 0, 0.0, math.sqrt(2 / math.pi) * error / np.abs(truth))
    between, paired = _order(estimate, truth)
    halves, _ = _order(truths(rewards[..., ::2])[0], truths(rewards[..., 1::2])[0])
    clear = paired & (np.abs(truth[:, 0] - truth[:, 1]) > _CLEAR * np.sqrt((error**2).sum(axis=1)))

    def over_groups(values: Floats) -> ValueWithInterval:
        return _bootstrapped(_mean, values)

    return Summary(
        steps_left=left,
        states=int(known.sum()),
        left_out=int((~known).sum()),
        not_finite=int((~np.isfinite(rewards)).sum()),
        reward=float(_mean(truth)),
        spread=float(np.nanstd(truth)) if known.any() else math.nan,
        relative_error=over_groups(relative),
        relative_noise=float(_mean(noise)),
        error=over_groups(np.abs(difference)),
        bias=over_groups(difference),
        rank=_bootstrapped(_spearman, estimate, truth),
        pairs=int(paired.sum()),
        order=_wilson(between[paired]),
        halves=float(_mean(halves)),
        clear_pairs=int(clear.sum()),
        clear=_wilson(between[clear]),
    )


def _order(first: Floats, second: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Whether two numbers order the pairs [G, 2] the same way: 1, 0, or ½ for a tie; and which pairs have both."""
    product = np.sign(first[:, 0] - first[:, 1]) * np.sign(second[:, 0] - second[:, 1])
    return (product + 1) / 2, np.isfinite(product)


def _mean(values: Floats) -> Floats:
    """Over the finite or infinite numbers of the last two axes; NaN where there are none."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        axes = tuple(range(max(0, values.ndim - 2), values.ndim))
        means: Floats = np.where(known, values, 0).sum(axis=axes) / known.sum(axis=axes)
    return means


def _spearman(first: Floats, second: Floats) -> Floats:
    """Spearman's correlation over the last two axes; states without numbers are left out, NaN without an order."""
    from scipy.stats import rankdata

    flat = [values.reshape(*values.shape[:-2], -1) for values in (first, second)]
    known = np.isfinite(flat[0]) & np.isfinite(flat[1])
    # An unknown state gets the highest rank, which leaves the others' ranks as they are, and no weight.
    ranks = [rankdata(np.where(known, values, np.inf), axis=-1) for values in flat]
    count = known.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = [np.where(known, rank - np.where(known, rank, 0).sum(-1, keepdims=True) / count, 0) for rank in ranks]
        product: Floats = (centred[0] * centred[1]).sum(-1)
        correlation: Floats = product / np.sqrt((centred[0] ** 2).sum(-1) * (centred[1] ** 2).sum(-1))
    return correlation


def _bootstrapped(statistic: Callable[..., Floats], *values: Floats) -> ValueWithInterval:
    """A statistic of G groups, [G, 2] each, with a percentile interval over groups drawn with replacement."""
    groups = len(values[0])
    drawn = np.random.default_rng(0).integers(0, groups, (RESAMPLES, groups))
    samples = statistic(*(each[drawn] for each in values))
    samples = samples[~np.isnan(samples)]
    # Without interpolation, which makes no number of two infinite ones (a relative error where the truth is 0).
    low, high = (
        np.quantile(samples, [0.025, 0.975], method="inverted_cdf").tolist() if len(samples) else (math.nan, math.nan)
    )
    return ValueWithInterval(float(statistic(*values)), low, high)


def _wilson(values: Floats) -> ValueWithInterval:
    """The share of pairs, with Wilson's score interval."""
    count = len(values)
    if not count:
        return ValueWithInterval(math.nan, math.nan, math.nan)
    share, z2 = float(values.mean()), _Z**2 / count
    centre = (share + z2 / 2) / (1 + z2)
    half = _Z / (1 + z2) * math.sqrt(share * (1 - share) / count + z2 / count / 4)
    return ValueWithInterval(share, max(0.0, centre - half), min(1.0, centre + half))


# ── For people ───────────────────────────────────────────────────────────────────────────────────────────────────────

_HEADER = (
    "steps left",
    "states",
    "reward ± spread",
    "relative error",
    "noise of it",
    "bias",
    "rank correlation",
    "order of pairs",
    "halves agree",
    "clear pairs",
)

NOTES = """\
- relative error: mean of |estimate - truth| / |truth|; noise of it: what a perfect estimate would show, because the
  truth is a mean over rollouts. Both say little where a reward has no natural zero.
- bias: estimate minus truth, in the unit of the reward; spread: standard deviation of the truth over states.
- order of pairs: share of the pairs of candidates of one state that the estimate orders as the truth does; halves
  agree: share that two independent halves of the rollouts order the same way. An order below that share is a fault of
  the estimate and not of noise. Clear pairs: the order where the truths are more than two standard errors apart, and
  how many there are.
- intervals are of 95 %, by bootstrap over groups of two states, and by Wilson's formula for shares."""


def lines(summaries: Sequence[Summary]) -> Iterator[str]:
    """The summaries as a Markdown table whose columns are aligned, for a terminal as well."""
    rows = [_HEADER, *(_cells(summary) for summary in summaries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    for number, row in enumerate(rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def _cells(item: Summary) -> tuple[str, ...]:
    left_out = f" ({item.left_out} left out)" if item.left_out else ""
    return (
        str(item.steps_left),
        f"{item.states}{left_out}",
        f"{item.reward:.4g} ± {item.spread:.2g}",
        _interval(item.relative_error, ".1%"),
        f"{item.relative_noise:.1%}",
        _interval(item.bias, "+.2g"),
        _interval(item.rank, ".2f"),
        _interval(item.order, ".0%"),
        f"{item.halves:.0%}",
        f"{_interval(item.clear, '.0%')} of {item.clear_pairs}" if item.clear_pairs else "none",
    )


def _interval(item: ValueWithInterval, form: str) -> str:
    return f"{item.value:{form}} [{item.low:{form}}, {item.high:{form}}]"
