"""Reward models on a device: throughput and peak memory by precision and batch size, share of the peak, agreement.

    python -m scripts.bench.score_device [--device cuda] [--out benchmarks/score_gpu.md]

At full size with random weights, or ``--reduced``. Share of peak: FLOP of one image as PyTorch counts them (products
and convolutions), times images per second, over the dense peak of the maker's data sheet.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from qsd.device import prepare
from scripts.bench.score_subjects import REDUCIBLE, Subject, architecture, bare, bare_inputs, subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCORERS = ("hps_v2", "pickscore", "clip_score", "aesthetic_v2", "image_reward")
BATCHES = (16, 64, 256, 512)
IMAGES = 1024
PEAK = {
    "H200": {"fp32": 67e12, "tf32": 494.7e12, "bf16": 989.4e12},
    "H100": {"fp32": 67e12, "tf32": 494.7e12, "bf16": 989.4e12},
    "A100": {"fp32": 19.5e12, "tf32": 156e12, "bf16": 312e12},
}
"""FLOP per second without sparsity, of the SXM boards."""


def precisions(device: str) -> tuple[str, ...]:
    """Precisions that the device has hardware for."""
    if not device.startswith("cuda"):
        return ("fp32", "bf16")
    return ("fp32", "tf32", "bf16") if torch.cuda.get_device_capability(device)[0] >= 8 else ("fp32",)


def sweep(measured: Subject, batches: Sequence[int]) -> Iterator[dict[str, Any]]:
    """One entry per precision and batch size; ``files`` and ``agreement`` at the fastest batch size of each.

    Entries: precision, batch, bare (images/s; None: out of memory), memory (peak bytes; None on a CPU), share of the
    device's peak (None if unknown), files (images/s), agreement (Spearman's rank correlation with fp32).
    """
    from scipy.stats import spearmanr

    device, pixels = measured.work.device, measured.ready()
    flop, exact = _flop(measured, pixels), None
    for precision in precisions(device):
        entries = []
        for batch in batches:
            sized = _sized(measured, batch)
            try:
                sized.forward(pixels, precision)
                _reset(device)
                seconds, scores = sized.forward(pixels, precision)
            except torch.OutOfMemoryError:
                entries.append({"precision": precision, "batch": batch, "bare": None, "memory": None, "share": None})
                torch.cuda.empty_cache()
                continue
            rate = measured.count / seconds
            peak = _peak(device, precision)
            share = flop * rate / peak if peak else None
            memory = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None
            entries.append({"precision": precision, "batch": batch, "bare": rate, "memory": memory, "share": share})
            if exact is None:
                exact = scores.cpu()
            agreement = float(spearmanr(exact, scores.cpu()).statistic)
        done = [entry for entry in entries if entry["bare"] is not None]
        if done:
            best = max(done, key=lambda entry: entry["bare"])
            sized = _sized(measured, best["batch"])
            best["files"] = measured.count / min(sized.from_files(turn, precision) for turn in range(2))
            best["agreement"] = agreement
        yield from entries


def _sized(measured: Subject, batch: int) -> Subject:
    return replace(measured, column=replace(measured.column, batch_size=batch))


def _flop(measured: Subject, pixels: torch.Tensor) -> float:
    tokens = bare_inputs(measured.scorer, measured.captions(0, 1), measured.work.device)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        bare(measured.scorer, pixels[:1], tokens)
    return float(counter.get_total_flops())


def _peak(device: str, precision: str) -> float | None:
    if not device.startswith("cuda"):
        return None
    name = torch.cuda.get_device_name(device)
    return next((peaks[precision] for board, peaks in PEAK.items() if board in name), None)


def _reset(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def report(
    device: str,
    workers: int,
    scorers: Sequence[str] = SCORERS,
    batches: Sequence[int] = BATCHES,
    images: int = IMAGES,
    reduced: bool = False,
) -> Iterator[str]:
    """The table, line by line."""
    yield ""
    yield "| scorer | precision | batch | bare, images/s | share of peak | memory, GiB | files / bare | rank corr. |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for name in scorers:
        with architecture(reduced), tempfile.TemporaryDirectory() as folder:
            measured = subject(name, Path(folder), images, batches[0], device, workers)
            for entry in sweep(measured, batches):
                yield f"| {name} | {' | '.join(_cells(entry))} |"


def _cells(entry: dict[str, Any]) -> list[str]:
    rate, memory, share = entry["bare"], entry["memory"], entry["share"]
    return [
        entry["precision"],
        str(entry["batch"]),
        "out of memory" if rate is None else f"{rate:.4g}",
        "" if share is None else f"{share:.1%}",
        "" if memory is None else f"{memory / 2**30:.2f}",
        f"{entry['files'] / rate:.1%}" if "files" in entry else "",
        f"{entry['agreement']:.6f}" if "agreement" in entry else "",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scorers", default="", help="names, by comma; all published ones if not given")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--workers", type=int, default=8, help="threads that decode")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--reduced", action="store_true", help="fewer and narrower layers")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = prepare(options.device, options.threads)
    usual = [name for name in SCORERS if name in REDUCIBLE or not options.reduced]
    scorers = options.scorers.split(",") if options.scorers else usual
    batches = [int(word) for word in options.batches.split(",")]
    lines = []
    for line in report(device, options.workers, scorers, batches, options.images, options.reduced):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(["# Reward models on a device", *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
