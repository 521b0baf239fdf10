"""The builder's training loop: fixed steps, cosine rate, EMA, resumable state, a progress bar.

Batches are a function of (seed, step) alone, so a resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

BatchLoss = Callable[[np.random.Generator, int], Tensor]
"""(generator of this step, step) -> scalar loss."""


@dataclass(frozen=True)
class Recipe:
    """Optimiser settings of one training."""

    steps: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.0
    ema: float = 0.0
    clip: float = 1.0
    final_rate: float = 0.02
    checkpoint_seconds: float = 60.0


def device() -> torch.device:
    """CUDA when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine down to ``final_rate`` times the peak."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    cosine = 0.5 * (1 + float(np.cos(np.pi * done)))
    return recipe.learning_rate * (recipe.final_rate + (1 - recipe.final_rate) * cosine)


def fit(
    name: str,
    modules: nn.ModuleDict,
    loss_of: BatchLoss,
    recipe: Recipe,
    folder: Path,
    seed: int,
    snapshots: dict[int, str] | None = None,
) -> nn.ModuleDict:
    """Train ``modules`` and return them with averaged weights (EMA) when the recipe asks for it.

    ``snapshots`` maps a step to a name: the averaged weights at that step are kept as ``folder/<name>.pt``.
    """
    snapshots = snapshots or {}
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    averaged = copy.deepcopy(modules).requires_grad_(False)
    state_file, step = folder / "state.pt", 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True, map_location=device())
        modules.load_state_dict(state["modules"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        step = int(state["step"])

    def save() -> None:
        state = {
            "modules": modules.state_dict(),
            "averaged": averaged.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
        }
        torch.save(state, state_file.with_suffix(".tmp"))
        state_file.with_suffix(".tmp").replace(state_file)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    last_save, last_line, running = time.monotonic(), time.monotonic(), 0.0
    with Progress(*columns) as progress:
        task = progress.add_task(name, total=recipe.steps, completed=step)
        while step < recipe.steps:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step)
            loss = loss_of(np.random.default_rng([seed, step]), step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            step += 1
            decay = min(recipe.ema, (1 + step) / (10 + step)) if recipe.ema else 0.0
            with torch.no_grad():
                for mean, value in zip(averaged.state_dict().values(), modules.state_dict().values(), strict=True):
                    if mean.is_floating_point():
                        mean.lerp_(value, 1 - decay)
                    else:
                        mean.copy_(value)
            running = 0.98 * running + 0.02 * float(loss.detach()) if step > 1 else float(loss.detach())
            progress.update(task, completed=step, description=f"{name} loss {running:.4f}")
            if not progress.console.is_terminal and time.monotonic() - last_line > 30:
                print(f"{name}: step {step}/{recipe.steps} loss {running:.4f}", flush=True)
                last_line = time.monotonic()
            if step in snapshots:
                torch.save(averaged.state_dict(), folder / f"{snapshots[step]}.pt")
            if time.monotonic() - last_save > recipe.checkpoint_seconds:
                save()
                last_save = time.monotonic()
    save()
    modules.load_state_dict(averaged.state_dict())
    return modules
