"""Every loss by hand values, at the start, under a swap, and at its limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qsd.config.check import problem, schema_fields
from qsd.config.schema import LossConfig
from qsd.losses import REGISTRY, PairErrors
from qsd.losses.alpha_dpo import LEAST_ALPHA
from qsd.training.offpolicy.summary import beta_convention
from tests.qsd import tiny_world
from tests.qsd.losses.loss_cases import errors_of, errors_with_logit, errors_with_margin, evaluate, swapped

WITH_REFERENCE = ("adaptive_dpo", "alpha_dpo", "cdpo", "dpo", "ipo", "kto", "linear_dpo", "rdpo", "slic")
REFERENCE_FREE = ("mapo", "orpo", "sft", "slic_rank")


def of(name: str, **settings: Any) -> LossConfig:
    """Settings with β = 2, so that β/2 · d is d."""
    return LossConfig(**{"name": name, "beta": 2.0, **settings})


def test_these_are_all_losses() -> None:
    """A new loss must be added to the tests below."""
    assert REGISTRY.names() == sorted(WITH_REFERENCE + REFERENCE_FREE)
    assert {name for name in REGISTRY.names() if not REGISTRY.get(name).needs_reference} == set(REFERENCE_FREE)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (of("dpo"), [0.693147, 0.313262, 0.126928]),
        (of("cdpo", label_noise=0.1), [0.693147, 0.413262, 0.326928]),
        (of("rdpo", label_noise=0.1), [0.693147, 0.188262, -0.123072]),
        (of("slic"), [1.0, 0.0, 0.0]),
        (of("ipo", ipo_tau=0.5), [1.0, 0.0, 1.0]),
        (of("alpha_dpo", alpha=0.5, alpha_schedule="constant"), [0.171573, 0.042038, 0.007563]),
        (of("adaptive_dpo", adaptive_slope=0.0, adaptive_margin="none"), [0.693147, 0.313262, 0.126928]),
    ],
    ids=lambda value: value.name if isinstance(value, LossConfig) else "",
)
def test_by_hand_at_logits_0_1_2(settings: LossConfig, expected: list[float]) -> None:
    """softplus(-1) = 0.313262, softplus(1) = 1.313262, …; α = 1/2 makes α-DPO 2 (1 - √p)²; τ = 1/2 has the target 1."""
    assert evaluate(errors_with_logit(0.0, 1.0, 2.0), settings).tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("logit", "expected"), [(0.0, 0.5), (1.0, 0.377541), (2.0, 0.268941), (-2.0, 0.880797)])
def test_kto_by_hand(logit: float, expected: float) -> None:
    """g^w = d, g^l = 0 and z0 = max(0, d/2): σ(-d/2) for d ≥ 0; for d = -2, z0 = 0 and (σ(2) + σ(0)) / 2 = 0.690399."""
    loss = evaluate(errors_with_logit(logit), of("kto")).item()
    assert loss == pytest.approx(expected if logit >= 0 else (expected + 0.5) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (of("orpo", ratio_weight=0.1), [1.069315, 1.031326, 1.012693]),
        (of("slic_rank", slic_margin=1.0, slic_weight=0.5), [1.5, 0.5, 0.5]),
        (of("sft"), [1.0, 1.0, 1.0]),
    ],
    ids=lambda value: value.name if isinstance(value, LossConfig) else "",
)
def test_reference_free_losses_by_hand_at_margins_0_1_2(settings: LossConfig, expected: list[float]) -> None:
    assert evaluate(errors_with_margin(0.0, 1.0, 2.0), settings).tolist() == pytest.approx(expected, abs=2e-6)


def test_mapo_by_hand() -> None:
    """f(2) = 1/(e-1) = 0.581977 and f(4) = 2/(e²-1) = 0.313035 at s = 1/2; their difference is 0.268942."""
    errors = errors_of([2.0, 0.0], [4.0, 0.0], [0.0, 0.0], [0.0, 0.0])
    loss = evaluate(errors, of("mapo", ratio_weight=0.1, mapo_scale=1.0, mapo_sharpness=0.5))
    assert loss.tolist() == pytest.approx([2 + 0.1 * math.log(1 + math.exp(-0.268942)), 0.1 * math.log(2)], abs=1e-6)


def test_mapo_is_smooth_where_its_series_begins() -> None:
    points = torch.tensor([0.00199, 0.001999, 0.002001, 0.00201], dtype=torch.float32, requires_grad=True)
    zeros = torch.zeros(4)
    loss = REGISTRY.get("mapo").function(PairErrors(points, zeros), of("mapo", mapo_scale=1.0, ratio_weight=1.0))
    (slope,) = torch.autograd.grad(loss.sum(), points)
    assert slope.tolist() == pytest.approx([1 + 0.25 / 2] * 4, rel=1e-3)


def test_beta_has_the_official_half() -> None:
    errors = errors_of([0.9990], [1.0], [1.0], [1.0])
    assert evaluate(errors, LossConfig(beta=5000.0)).item() == pytest.approx(math.log(1 + math.exp(-2.5)), rel=1e-4)


STARTS: dict[str, float | list[float]] = {
    "adaptive_dpo": math.log(2),
    "alpha_dpo": (0.5**0.49995 - 0.50005 - 0.49995 * 0.5) / (0.49995 * -0.50005),
    "cdpo": math.log(2),
    "dpo": math.log(2),
    "ipo": (1 / 200) ** 2,
    "kto": 0.5,
    "linear_dpo": [0.5 * (0.3 - 0.1), 0.5 * (0.7 - 2.0)],
    "rdpo": math.log(2),
    "slic": 1.0,
}
SLOPES: dict[str, float] = {
    "adaptive_dpo": 0.5,
    "alpha_dpo": (0.5**0.49995 - 0.5) * 0.5 / 0.50005,
    "cdpo": 0.5 * (1 - 2 * 0.1),
    "dpo": 0.5,
    "ipo": 1 / 100,
    "kto": 1 / 8,
    "linear_dpo": 0.5,
    "rdpo": 0.5 / (1 - 2 * 0.1),
    "slic": 1.0,
}
"""-dL/dd at d = 0 in units of β/2 (of 1 for ipo and linear_dpo): the table in docs/losses.md."""


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_value_and_slope_at_the_start(name: str) -> None:
    """A fresh adapter has the reference's errors; every default but β = 2."""
    errors = errors_of([0.3, 0.7], [0.1, 2.0], [0.3, 0.7], [0.1, 2.0])
    loss = evaluate(errors, of(name))
    loss.sum().backward()
    start = STARTS[name]
    assert loss.tolist() == pytest.approx(start if isinstance(start, list) else [start] * 2, rel=1e-5)
    assert errors.winner.grad is not None
    assert errors.loser.grad is not None
    assert errors.winner.grad.tolist() == pytest.approx([SLOPES[name]] * 2, rel=1e-5)
    assert errors.loser.grad.tolist() == pytest.approx([-SLOPES[name]] * 2, rel=1e-5)


def test_dpo_is_exactly_log_two_at_the_start() -> None:
    errors = errors_of([0.3, 0.7], [0.1, 2.0], [0.3, 0.7], [0.1, 2.0])
    assert evaluate(errors, LossConfig()).tolist() == [torch.tensor(2.0).log().item()] * 2


@pytest.mark.parametrize("name", REGISTRY.names())
@pytest.mark.parametrize("logit", [-0.4, 0.0, 0.3])
def test_descent_lowers_the_winner_error_and_raises_the_loser_error(name: str, logit: float) -> None:
    """For every loss, on pairs that the model has right and on pairs that it has wrong."""
    errors = errors_of([0.5 - logit], [0.5], [0.5], [0.5])
    evaluate(errors, of(name, ipo_tau=0.5)).sum().backward()
    assert errors.winner.grad is not None
    assert errors.winner.grad.item() > 0
    if name == "sft":
        assert errors.loser.grad is None
    else:
        assert errors.loser.grad is not None
        assert errors.loser.grad.item() < 0


@pytest.mark.parametrize(
    ("settings", "stop"), [(of("ipo", ipo_tau=0.5), 1.0), (of("cdpo", label_noise=0.1), math.log(9))]
)
def test_bounded_losses_pull_back_beyond_their_target(settings: LossConfig, stop: float) -> None:
    errors = errors_with_logit(stop - 0.5, stop, stop + 0.5)
    evaluate(errors, settings).sum().backward()
    assert errors.winner.grad is not None
    before, at, after = errors.winner.grad.tolist()
    assert before > 0 > after
    assert at == pytest.approx(0, abs=1e-6)


def test_alpha_dpo_gives_up_what_dpo_pulls_hardest_on() -> None:
    pulls = {}
    for name in ("dpo", "alpha_dpo"):
        errors = errors_with_logit(-12.0, 0.0)
        evaluate(errors, of(name, alpha=0.9, alpha_schedule="constant")).sum().backward()
        assert errors.winner.grad is not None
        pulls[name] = errors.winner.grad.tolist()
    assert pulls["dpo"][0] > 1.9 * pulls["dpo"][1]
    assert pulls["alpha_dpo"][0] < 0.01 * pulls["alpha_dpo"][1]


def test_alpha_of_the_step_is_the_mean_agreement() -> None:
    member, errors = REGISTRY.get("alpha_dpo"), errors_with_logit(1.0, -2.0)
    assert member.statistics is not None
    mean = (0.731059 + 0.119203) / 2
    assert member.statistics(errors, of("alpha_dpo", alpha=0.8)).tolist() == pytest.approx([0.8 * mean], rel=1e-5)
    assert member.statistics(errors, of("alpha_dpo", alpha=0.8, alpha_schedule="constant")).tolist() == [
        pytest.approx(0.8)
    ]
    assert member.statistics(errors_with_logit(-3e5), of("alpha_dpo")).tolist() == [pytest.approx(LEAST_ALPHA)]


SWAPS: dict[str, Callable[[float], float]] = {
    "dpo": lambda d: -d,
    "cdpo": lambda d: -(1 - 2 * 0.1) * d,
    "rdpo": lambda d: -d / (1 - 2 * 0.1),
    "slic": lambda d: -2 * d,
    "ipo": lambda d: -4 * d,
    "adaptive_dpo": lambda d: -d,
    "sft": lambda m: -m,
    "orpo": lambda m: -m - 0.1 * m,
    "slic_rank": lambda m: -m - 2 * m,
}
"""L of a pair less L of the swapped pair, by d, or by m = e^l - e^w without a reference."""


@pytest.mark.parametrize("name", SWAPS)
@pytest.mark.parametrize("size", [0.25, -0.5])
def test_swapping_winner_and_loser(name: str, size: float) -> None:
    settings = of(name, ipo_tau=0.5 / 1.0, slic_margin=2.0, adaptive_slope=0.0, adaptive_margin="none")
    errors = errors_with_logit(size) if name in WITH_REFERENCE else errors_with_margin(size)
    difference = evaluate(errors, settings) - evaluate(swapped(errors), settings)
    assert difference.item() == pytest.approx(SWAPS[name](size), abs=1e-6)


def test_swapping_in_kto_exchanges_the_utilities() -> None:
    """Without a drift (z0 = 0) an image's two utilities, as winner and as loser, add up to one."""
    errors = errors_of([0.2], [0.7], [0.1], [0.5])
    total = evaluate(errors, of("kto")) + evaluate(swapped(errors), of("kto"))
    assert total.item() == pytest.approx(1.0)


def test_swapping_negates_the_logit() -> None:
    errors = errors_of([0.1, 0.2], [0.4, 0.1], [0.2, 0.2], [0.3, 0.5])
    assert swapped(errors).logits.tolist() == (-errors.logits).tolist()
    for one, other in zip(errors.averaged_logits(), swapped(errors).averaged_logits(), strict=True):
        assert one.tolist() == (-other).tolist()


@pytest.mark.parametrize("name", ["cdpo", "rdpo"])
def test_no_assumed_noise_is_dpo(name: str) -> None:
    errors = errors_with_logit(-2.0, -0.1, 0.0, 0.7, 5.0)
    assert evaluate(errors, of(name, label_noise=0.0)).tolist() == evaluate(errors, of("dpo")).tolist()


def test_rdpo_is_unbiased_under_its_noise() -> None:
    """(1-ε) L(d) + ε L(-d) is the DPO loss of the true label."""
    errors, noise = errors_with_logit(-1.5, 0.2, 3.0), 0.3
    settings = of("rdpo", label_noise=noise)
    mean = (1 - noise) * evaluate(errors, settings) + noise * evaluate(swapped(errors), settings)
    torch.testing.assert_close(mean, evaluate(errors, of("dpo")))


def test_cdpo_near_one_half_trusts_no_label() -> None:
    errors = errors_with_logit(1.3)
    settings = of("cdpo", label_noise=math.nextafter(0.5, 0))
    torch.testing.assert_close(evaluate(errors, settings), evaluate(swapped(errors), settings))


def test_alpha_dpo_near_zero_is_dpo_with_its_linear_term() -> None:
    errors = errors_with_logit(-2.0, 0.0, 1.0)
    loss = evaluate(errors, of("alpha_dpo", alpha=LEAST_ALPHA, alpha_schedule="constant"))
    expected = evaluate(errors, of("dpo")) + torch.sigmoid(errors.logits) - 1
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-4)


def test_orpo_without_ratio_and_slic_rank_without_rank_are_sft() -> None:
    errors = errors_with_margin(0.5, 2.0)
    sft = evaluate(errors, of("sft"))
    torch.testing.assert_close(evaluate(errors, of("orpo", ratio_weight=1e-30)), sft)
    torch.testing.assert_close(evaluate(errors, of("slic_rank", slic_margin=0.5)), sft)


def test_mapo_tends_to_orpo_at_small_errors() -> None:
    """Its sigmoid sees ``factor`` times the difference of errors."""
    mapo = of("mapo", mapo_scale=100.0, mapo_sharpness=0.04)
    member = REGISTRY.get("mapo")
    assert member.factor is not None
    errors = errors_of([0.01, 0.02], [0.03, 0.01], [0.0, 0.0], [0.0, 0.0])
    torch.testing.assert_close(
        evaluate(errors, mapo), evaluate(errors, of("orpo", beta=2 * member.factor(mapo))), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", REGISTRY.names())
def test_factor_is_what_multiplies_the_difference(name: str) -> None:
    member = REGISTRY.get(name)
    expected = {"sft": None, "ipo": None, "mapo": 250.0}.get(name, 2500.0)
    assert (member.factor(LossConfig()) if member.factor else None) == expected
    assert ("beta" in member.fields) == (expected == 2500.0)


def test_a_training_says_what_beta_multiplies(tmp_path: Path) -> None:
    said = {
        name: beta_convention(tiny_world.config(tmp_path, tmp_path, loss__name=name, loss__beta=2000.0))
        for name in ("kto", "mapo", "sft")
    }
    assert said["sft"] == "loss sft: no beta"
    assert "beta 2000 in the convention of the Diffusion-DPO code (beta/2)" in said["kto"]
    assert "multiplied by 1000 " in said["kto"]
    assert "beta" not in said["mapo"]
    assert "multiplied by 250 " in said["mapo"]


@pytest.mark.parametrize("name", REGISTRY.names())
def test_a_loss_reads_the_fields_that_it_declares(name: str) -> None:
    """Every other field of the section may be anything at all: it enters neither the value nor the key."""

    class Watched(LossConfig):
        def __getattribute__(self, field: str) -> Any:
            if not field.startswith("_"):
                read.add(field)
            return super().__getattribute__(field)

    read: set[str] = set()
    member = REGISTRY.get(name)
    normalizers = ("step", "micro_batch") if name == "adaptive_dpo" else ("step",)
    for normalizer in normalizers:
        for margin in ("quadratic", "scaled"):
            settings = Watched(name=name, adaptive_normalizer=normalizer, adaptive_group=2, adaptive_margin=margin)
            errors = errors_of([0.1, 0.2], [0.4, 0.1], [0.2, 0.2], [0.3, 0.5])
            statistics = member.statistics(errors, settings) if member.statistics else None
            given = PairErrors(
                errors.winner, errors.loser, errors.ref_winner, errors.ref_loser, errors.averaged, statistics
            )
            member.function(given, settings)
            if member.averages:
                member.averages(settings)
    assert read == set(member.fields)


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_a_loss_that_forgot_to_ask_for_the_reference_is_told(name: str) -> None:
    zeros = torch.zeros(1)
    given = PairErrors(zeros, zeros, averaged=((zeros, zeros),), statistics=torch.ones(3))
    with pytest.raises(ValueError, match="needs_reference"):
        REGISTRY.get(name).function(given, of(name))


@pytest.mark.parametrize("name", ["kto", "alpha_dpo", "adaptive_dpo"])
def test_a_coupled_loss_without_statistics_is_told(name: str) -> None:
    with pytest.raises(ValueError, match=r"step in errors\.statistics"):
        REGISTRY.get(name).function(errors_with_logit(0.0), of(name))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("beta", 0, "above 0"),
        ("label_noise", 0.5, "at least 0 and below 0.5"),
        ("label_noise", -0.1, "at least 0 and below 0.5"),
        ("ipo_tau", 0, "above 0"),
        ("ratio_weight", 0, "above 0"),
        ("mapo_sharpness", 0, "above 0"),
        ("mapo_scale", -1, "above 0"),
        ("slic_margin", 0, "above 0"),
        ("slic_weight", -1, "at least 0"),
        ("kto_desirable", 0, "above 0"),
        ("kto_undesirable", -2, "above 0"),
        ("alpha", 1, "above 0 and below 1"),
        ("alpha", 0, "above 0 and below 1"),
        ("linear_floor", 0.5, "at least 0 and below 0.5"),
        ("linear_floor", -0.1, "at least 0 and below 0.5"),
        ("linear_decay", 1.0, "at least 0 and below 1"),
        ("beta_schedule", "auto", "known: constant, automatic"),
        ("beta_decay", 1.0, "at least 0 and below 1"),
        ("beta_range", 0.5, "at least 1"),
        ("alpha_schedule", "sometimes", "known: step_mean, constant"),
        ("adaptive_decays", [0.5, 1.0], "at least 0 and below 1"),
        ("adaptive_decays", [], "must not be empty"),
        ("adaptive_normalizer", "batch", "known: step, timestep, micro_batch, none"),
        ("adaptive_group", 0, "at least 1"),
        ("adaptive_rho", 0, "above 0"),
        ("adaptive_slope", -1, "at least 0"),
        ("adaptive_intercept", 0, "above 0"),
        ("adaptive_margin", "cubic", "known: quadratic, linear, scaled, none"),
        ("adaptive_margin_weight", -1, "at least 0"),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: Any, words: str) -> None:
    assert words in str(problem(schema_fields()[f"loss.{field}"], value))
