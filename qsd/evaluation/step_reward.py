"""How good the step reward of Eq. 12 is, measured: ``qsd validate step-reward``.

A result's folder::

    settings.json    what was measured: settings, seed, digests of model and prompts, revisions of the reward models
    states.parquet   steps_left, prompt_id, visit, caption, candidate, estimate, truth, truth_se, rewards (of rollouts)
    table.csv        one row per number of steps left (``qsd.evaluation.step_reward_table.Summary``)
    table.md         the same for people

Rows are in groups of two, the candidates of one x_{t+1}; the groups take the training prompts in the order in which a
training takes them. The groups are measured part by part, and finished parts are kept, so that an interrupted run
continues and ends in the same bytes.
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from qsd.config.digest import canonical_json, location_digest
from qsd.errors import UserError
from qsd.evaluation.step_reward_table import CANDIDATES, NOTES, lines, summarise, truths
from qsd.files import write_bytes, write_json, write_table
from qsd.output_folder import claimed
from qsd.runtime import STATE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from qsd.config.schema import ExperimentConfig
    from qsd.evaluation.step_reward_table import Summary
    from qsd.runtime import Report
    from qsd.training.onpolicy.prompts import PromptStream
    from qsd.training.onpolicy.rewards import LatentReward
    from qsd.training.onpolicy.sampler import Sampler

SETTINGS, STATES, TABLE, PAGE = "settings.json", "states.parquet", "table.csv", "table.md"
_VERSION = 1
_ROWS = 256
"""Rollouts that a part has at least: what one batch of the network can be filled with."""


@dataclass(frozen=True)
class Extent:
    """What is measured.

    Attributes:
        states: for each number of steps left, even, at least 2.
        rollouts: from each state, at least 2.
        steps_left: numbers of sampler steps, each from 1 to one less than the sampler has.
    """

    states: int
    rollouts: int
    steps_left: tuple[int, ...]

    def check(self, sampler_steps: int) -> None:
        """Check the numbers.

        Raises:
            UserError: naming the option, the value and what it may be.
        """
        if self.states < CANDIDATES or self.states % CANDIDATES:
            raise UserError(
                f"--states {self.states}: states are measured in pairs of candidates; give an even number, at least 2"
            )
        if self.rollouts < 2:
            raise UserError(f"--rollouts {self.rollouts}: the truth is a mean with a standard error; give at least 2")
        for left in self.steps_left:
            if not 1 <= left < sampler_steps:
                raise UserError(
                    f"--steps-left {left}: it must be from 1 to {sampler_steps - 1}, because method.sampler_steps is "
                    f"{sampler_steps} and a step comes before the pairs"
                )
        if not self.steps_left or len(set(self.steps_left)) < len(self.steps_left):
            raise UserError("--steps-left: give different numbers, separated by commas")


def run(
    config: ExperimentConfig, extent: Extent, output: Path, report: Report, overwrite: bool = False
) -> list[Summary]:
    """Measure into ``output``; an interrupted run of the same settings is continued.

    Args:
        config: sections model, method (prompts and sampling), reward, training.precision, and the seed. The policy is
            the base model.
        extent: what is measured.
        output: folder to fill; new, empty, or left behind by an interrupted run.
        report: progress in passes of an image through the network.
        overwrite: delete the result, finished or not, that an earlier run left in ``output``.

    Raises:
        UserError: a wrong number, missing prompts or weights, or an output that holds something else.
    """
    from qsd.training.onpolicy.opening import calibrate
    from qsd.training.onpolicy.prompts import PromptStream, training_prompts

    method = config.method
    extent.check(method.sampler_steps)
    if not method.prompts:
        raise UserError(
            "method.prompts is missing (CSV with prompt_id, caption, split: the training prompts of on-policy "
            "methods); step rewards are measured on them"
        )
    stream = PromptStream(training_prompts(method.prompts, tuple(method.splits)), config.seed)
    settings = _settings(config, extent)
    sampler, reward = _opened(config)  # before the folder is made: weights or a reward may be refused
    with claimed(output, canonical_json(settings), overwrite):
        calibrate(reward, sampler, stream)
        states = _Measurement(sampler, reward, stream, extent, report).states(output / STATE)
        summaries = summarise(states)
        write_json(output / SETTINGS, settings)
        write_table(output / STATES, states)
        write_bytes(output / TABLE, _csv(summaries))
        write_bytes(output / PAGE, _page(config, extent, reward, summaries).encode())
    return summaries


def _settings(config: ExperimentConfig, extent: Extent) -> dict[str, Any]:
    """Everything that decides the result."""
    from qsd.rewards.ensemble import members_of
    from qsd.rewards.revision import revision
    from qsd.source import source_digest

    method, reward = config.method, config.reward
    names = members_of(reward.model, reward.members)
    return {
        "version": _VERSION,
        "code": source_digest("qsd.evaluation.step_reward_states", within="qsd"),
        **asdict(extent),
        "model.path": location_digest(config.model.path),
        "model.resolution": config.model.resolution,
        "model.vae_precision": config.model.vae_precision,
        "training.precision": config.training.precision,
        "method.prompts": location_digest(method.prompts),
        "method.splits": list(method.splits),
        "method.sampler_steps": method.sampler_steps,
        "method.guidance_scale": method.guidance_scale,
        "method.eta": method.eta,
        "reward.model": reward.model,
        "reward.combine": reward.combine if len(names) > 1 else None,
        "reward.precision": reward.precision,
        "revisions": {name: revision(name, reward.weights) for name in names},
        "seed": config.seed,
    }


def _opened(config: ExperimentConfig) -> tuple[Sampler, LatentReward]:
    """The base model's sampler, and the reward."""
    import torch

    from qsd.device import prepare
    from qsd.models.denoiser import load_denoiser
    from qsd.models.local_checks import match_guidance
    from qsd.training.onpolicy.opening import open_sampling

    device = torch.device(prepare(config.device, config.threads))
    denoiser = load_denoiser(config.model.path, device, config.training.precision, config.model.resolution)
    network: Any = denoiser.network
    match_guidance(denoiser.family, network.config, config.model.path, config.method.guidance_scale)
    return open_sampling(config, config.method, denoiser, device)


@dataclass
class _Measurement:
    """The groups of all numbers of steps left, part by part."""

    sampler: Sampler
    reward: LatentReward
    stream: PromptStream
    extent: Extent
    report: Report

    def states(self, folder: Path) -> pa.Table:
        """All states; the parts that are in ``folder`` are not measured again."""
        import pyarrow as pa

        from qsd.runtime import silent
        from qsd.shards import sharded_tables

        groups = self.extent.states // CANDIDATES
        size = min(groups, -(-_ROWS // (CANDIDATES * self.extent.rollouts)))
        parts: list[pa.Table] = []
        for left in self.extent.steps_left:
            compute = partial(self._part, left)
            parts += sharded_tables(folder / f"steps-left-{left:04d}", groups, size, compute, silent, "groups")
        total = self._passes_before(self.extent.steps_left[-1], groups)
        self.report(total, total, "passes")
        return pa.concat_tables(parts)

    def _part(self, left: int, start: int, stop: int) -> pa.Table:
        """Rows of the groups ``start`` to ``stop - 1``."""
        import numpy as np
        import pyarrow as pa

        from qsd.evaluation.step_reward_states import measure

        total = self._passes_before(self.extent.steps_left[-1], self.extent.states // CANDIDATES)
        before = self._passes_before(left, start) - self.sampler.passes

        def advanced() -> None:
            self.report(before + self.sampler.passes, total, "passes")

        prompts, visits = self.stream.at(start, stop)
        batch = self.sampler.prompts(prompts, visits)
        estimates, rewards = measure(self.sampler, self.reward, batch, left, self.extent.rollouts, advanced)
        # From [candidate, prompt] to rows, the candidates of a prompt one after the other.
        estimate = estimates.T.flatten().cpu().numpy()
        of_rollouts = rewards.transpose(0, 1).flatten(0, 1).cpu().numpy()
        truth, error = truths(of_rollouts.astype(np.float64))
        rows = range(len(estimate))
        columns: dict[str, Any] = {
            "steps_left": pa.array([left] * len(rows), pa.int32()),
            "prompt_id": [prompts[row // CANDIDATES].prompt_id for row in rows],
            "visit": pa.array([visits[row // CANDIDATES] for row in rows], pa.int32()),
            "caption": [prompts[row // CANDIDATES].caption for row in rows],
            "candidate": pa.array([row % CANDIDATES for row in rows], pa.int32()),
            "estimate": pa.array(estimate, pa.float32()),
            "truth": pa.array(truth, pa.float64()),
            "truth_se": pa.array(error, pa.float64()),
            "rewards": pa.array(list(of_rollouts), pa.list_(pa.float32())),
        }
        return pa.table(columns)

    def _passes_before(self, left: int, start: int) -> int:
        """Passes of the network before group ``start`` of ``left`` steps left."""
        from qsd.evaluation.step_reward_states import passes

        lefts, groups, rollouts = self.extent.steps_left, self.extent.states // CANDIDATES, self.extent.rollouts
        earlier = sum(passes(self.sampler, groups, other, rollouts) for other in lefts[: lefts.index(left)])
        return earlier + passes(self.sampler, start, left, rollouts)


def _csv(summaries: Sequence[Summary]) -> bytes:
    text = io.StringIO()
    rows = [summary.row() for summary in summaries]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _page(config: ExperimentConfig, extent: Extent, reward: LatentReward, summaries: Sequence[Summary]) -> str:
    method = config.method
    guidance = f"guidance {method.guidance_scale:g}" if method.guidance_scale > 1 else "no guidance"
    introduction = (
        f"Reward {reward.described}; base model, {method.sampler_steps} sampler steps, eta {method.eta:g}, {guidance}, "
        f"seed {config.seed}. {extent.states} states for each number of steps left, in pairs of candidates of one "
        f"state; the truth is the mean reward of {extent.rollouts} rollouts from each."
    )
    title = "# The step reward of Eq. 12 compared with rollouts"
    return "\n".join([title, "", introduction, "", *lines(summaries), "", NOTES, ""])
