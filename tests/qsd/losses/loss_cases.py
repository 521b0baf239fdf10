"""Pairs of errors for the tests of losses."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from qsd.losses import REGISTRY, PairErrors

if TYPE_CHECKING:
    from torch import Tensor

    from qsd.config.schema import LossConfig


def errors_of(
    winner: list[float],
    loser: list[float],
    ref_winner: list[float],
    ref_loser: list[float],
    *averaged: tuple[list[float], list[float]],
) -> PairErrors:
    """Errors that carry gradients where a model's would; without averages, those of a model that never moved."""
    pairs = averaged or ((ref_winner, ref_loser), (ref_winner, ref_loser))
    return PairErrors(
        torch.tensor(winner, requires_grad=True),
        torch.tensor(loser, requires_grad=True),
        torch.tensor(ref_winner),
        torch.tensor(ref_loser),
        tuple((torch.tensor(first), torch.tensor(second)) for first, second in pairs),
    )


def errors_with_logit(*logits: float) -> PairErrors:
    """Pairs with d = logit: the model has brought the winner's error down from the reference's by it."""
    count = len(logits)
    return errors_of([3.0 - logit for logit in logits], [4.0] * count, [3.0] * count, [4.0] * count)


def errors_with_margin(*margins: float) -> PairErrors:
    """Pairs with e^l - e^w = margin at a winner's error of 1."""
    ones = [1.0] * len(margins)
    return errors_of(ones, [1.0 + margin for margin in margins], ones, ones)


def evaluate(errors: PairErrors, settings: LossConfig) -> Tensor:
    """The loss per pair when ``errors`` are all the pairs of an optimiser step."""
    return REGISTRY.get(settings.name).function(with_statistics(errors, settings), settings)


def with_statistics(errors: PairErrors, settings: LossConfig) -> PairErrors:
    """The errors with what the loss asks to know of the whole step, made from them, detached, as the loop does."""
    member = REGISTRY.get(settings.name)
    if member.statistics is None:
        return errors
    return dataclasses.replace(errors, statistics=member.statistics(detached(errors), settings))


def detached(errors: PairErrors) -> PairErrors:
    return dataclasses.replace(errors, winner=errors.winner.detach(), loser=errors.loser.detach())


def rows_of(errors: PairErrors, start: int, stop: int) -> PairErrors:
    """A micro-batch of the pairs; the statistics of the step stay."""

    def cut(column: Tensor | None) -> Tensor | None:
        return None if column is None else column[start:stop]

    return PairErrors(
        errors.winner[start:stop],
        errors.loser[start:stop],
        cut(errors.ref_winner),
        cut(errors.ref_loser),
        tuple((winner[start:stop], loser[start:stop]) for winner, loser in errors.averaged),
        errors.statistics,
    )


def swapped(errors: PairErrors) -> PairErrors:
    """The same pairs with the labels turned round."""
    return PairErrors(
        errors.loser,
        errors.winner,
        errors.ref_loser,
        errors.ref_winner,
        tuple((loser, winner) for winner, loser in errors.averaged),
        errors.statistics,
    )
