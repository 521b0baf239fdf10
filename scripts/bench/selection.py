"""Time and memory of stage select on a million scored pairs, each selection in its own process.

    python scripts/bench/selection.py [--pairs 1000000] [--out benchmarks/select_cpu.md]

The pairs are synthetic and similar to Pick-a-Pic: 59 captions per thousand pairs, images that are in several pairs,
raw cosines as scores. The stage's time is from reading two artefacts to the last file written, once the libraries are
loaded; the process's is the total, from the start of Python. Both are seconds of the processor; other work on the
machine affects the wall-clock time more. Memory is the highest resident set of the process.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

METRICS = ("product", "difference", "winner_only", "loser_only", "ratio", "log_odds", "rank_product", "random")
CASES: dict[str, dict[str, Any]] = {
    **{f"{metric}, top_k": {"quality.metric": metric} for metric in METRICS},
    "product of percentile ranks, top_k": {"quality.normalization": "percentile_rank"},
    "product, bottom_k": {"selection.strategy": "bottom_k"},
    "product, threshold 0.2": {"selection.strategy": "threshold", "selection.threshold": 0.2},
    "product, weighted_sampling": {"selection.strategy": "weighted_sampling"},
    "product, weighted_sampling with replacement": {
        "selection.strategy": "weighted_sampling",
        "selection.replacement": True,
    },
    "product, loss_weighting of all": {"selection.strategy": "loss_weighting", "selection.fraction": 100.0},
    "product, stratified_top_k by style": {"selection.strategy": "stratified_top_k"},
    "product, stratified_top_k by 16 prompt clusters": {
        "selection.strategy": "stratified_top_k",
        "selection.prompt_clusters": 16,
    },
    "product, curriculum": {"selection.strategy": "curriculum"},
    "random": {"selection.strategy": "random"},
}
STYLES = ("anime", "photo", "paintings")
_PROCESS = """
import json, pathlib, re, sys, time
from qsd.config.load import build, defaults
from qsd.stages.select import run as select
from qsd.runtime import StageContext
import pandas, pyarrow.compute, pyarrow.dataset  # what reading a table loads
world, given = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
config = build({**defaults(), **given})
inputs = {"data": world / "data", "score": world / "score"}
begun = time.process_time(), time.perf_counter()
select.run(StageContext(config, inputs, world / "out"))
ended = time.process_time(), time.perf_counter()
status = pathlib.Path("/proc/self/status").read_text()
peak = int(re.search(r"VmHWM:\\s*(\\d+)", status)[1]) / 1024  # ru_maxrss would begin with the parent process
print(json.dumps([ended[0] - begun[0], ended[0], ended[1] - begun[1], peak]))
"""
REQUIRED = {
    "data.path": "",
    "model.path": "",
    "reward.model": "clip_emoji",
    "reward.weights": "",
    "training.steps": 1,
    "training.pairs_per_step": 1,
    "training.learning_rate": 1.0,
    "evaluation.prompts": "",
    "evaluation.scorers": ["clip_emoji"],
}


def make_world(folder: Path, pairs: int) -> None:
    """Write the folders data/ and score/ for this number of pairs."""
    import numpy as np
    import pyarrow as pa

    from qsd.files import write_table

    rng = np.random.default_rng(0)

    def ids(numbers: np.ndarray) -> list[str]:
        return [f"{number:016x}" for number in (numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).tolist()]

    captions = max(2, pairs * 59 // 1000)
    words = [f"word{number}" for number in range(5000)]
    made = [
        f"{' '.join(words[place] for place in rng.zipf(1.3, 8) % 5000)} {number}, {STYLES[number % len(STYLES)]} style"
        for number in range(captions)
    ]
    images = np.array(ids(np.arange(max(4, pairs * 7 // 10))))
    winner, loser = rng.integers(0, len(images), pairs), rng.integers(0, len(images), pairs)
    cosines = rng.normal(0.28, 0.04, len(images)).clip(0.01, 0.99).astype(np.float32)
    table = {
        "pair_id": ids(np.arange(pairs) + 2**40),
        "caption": [made[number] for number in np.sort(rng.integers(0, captions, pairs))],
        "winner_uid": images[winner],
        "loser_uid": images[loser],
        "annotator_id": ids(rng.integers(0, 4000, pairs)),
        "source_row": np.arange(pairs),
    }
    scores = {
        "pair_id": table["pair_id"],
        "winner_score": cosines[winner],
        "loser_score": cosines[loser],
        **{
            name: pa.DictionaryArray.from_arrays(np.zeros(pairs, np.int32), [name])
            for name in ("scorer", "revision", "unit")
        },
    }
    for name, columns in (("data/pairs", table), ("score/scores", scores)):
        (folder / name).parent.mkdir()
        write_table(folder / f"{name}.parquet", pa.table(columns))


def measure(world: Path, settings: dict[str, Any]) -> tuple[float, float, float, float]:
    """Seconds of the processor for the stage and for the process, the stage's seconds on the clock, MiB."""
    import json

    (world / "out").mkdir(exist_ok=True)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-c", _PROCESS, str(world), json.dumps({**REQUIRED, **settings})]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **one_thread})
    stage, process, clock, peak = json.loads(done.stdout.splitlines()[-1])
    return stage, process, clock, peak


def main() -> None:
    """Measure every case; write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each selection; the best one is reported")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        f"# Selecting from {options.pairs:,} scored pairs",
        "",
        f"`make bench-select`, {_processor()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} on",
        f"{os.cpu_count()} cores when it began. Best of {options.repeats} runs, each a new process. Bound: 2 s, 1 GB.",
        "",
        "| selection | stage, processor s | process, processor s | stage, clock s | memory, MB |",
        "|---|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        make_world(Path(folder), options.pairs)
        for name, settings in CASES.items():
            if options.only not in name:
                continue
            runs = [measure(Path(folder), settings) for _ in range(options.repeats)]
            stage, process, clock, _ = (min(column) for column in zip(*runs, strict=True))
            peak = max(run[3] for run in runs) * 1.048576
            lines.append(f"| {name} | {stage:.2f} | {process:.2f} | {clock:.2f} | {peak:.0f} |")
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
