"""Run the HPS v2 benchmark: pictures, their scores, the result, and the difference to another result.

A result's folder::

    pictures.json                 what the pictures were made with; another run into the folder must agree with it
    images/images-*.parquet       generated pictures, as stage generate writes them
    <scorer>/scores.parquet       style, number, prompt_id, caption, score (cosine), in the order of the prompts
    <scorer>/result.json          means and spreads in hundredths of cosine, scorer and revision

Pictures and scores are kept shard by shard, so that an interrupted run continues; several scorers share the pictures.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError
from qsd.evaluation.hps_benchmark import BenchmarkResult, StyleResult, check_groups, summarise
from qsd.files import is_temporary, remove_leftovers, write_json, write_table
from qsd.generation.images import SHARD_IMAGES

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from qsd.config.schema import ExperimentConfig
    from qsd.evaluation.hps_pictures import Pictures
    from qsd.rewards.scorer import Scorer
    from qsd.runtime import Report

VERSIONS = {"v2.0": "hps_v2", "v2.1": "hps_v2.1"}
"""Version of the benchmark -> the reward model that it scores with."""

PICTURES, RESULT, SCORES = "pictures.json", "result.json", "scores.parquet"
_STATE = ".state"
_UNIT = "cosine"


def measure(config: ExperimentConfig, pictures: Pictures, scorer: str, output: Path, report: Report) -> BenchmarkResult:
    """Make, score and summarise; what is done already is not done again.

    Args:
        config: the experiment; its reward models' folder, device, threads and batch size are used.
        pictures: one for every prompt.
        scorer: name of a reward model whose unit is cosine.
        output: folder of the result; new, or of a run with the same pictures.
        report: progress.

    Raises:
        UserError: missing weights, another unit, a folder of other pictures, or a score that is not finite.
    """
    from qsd.device import prepare
    from qsd.rewards.opening import open_reward
    from qsd.rewards.revision import revision
    from qsd.rewards.scorers import REGISTRY

    spec = REGISTRY.get(scorer)
    if spec.unit != _UNIT:
        raise UserError(f"--scorer {scorer}: its unit is {spec.unit}; the benchmark is in hundredths of cosine")
    weights_revision = revision(scorer, config.reward.weights)
    for style, count in Counter(place.style for place in pictures.places).items():
        check_groups(style, count)
    _claim(output, pictures.meaning)
    folder = output / scorer
    known = _read(folder)
    if known is not None and known["revision"] == weights_revision:
        shutil.rmtree(folder / _STATE, ignore_errors=True)  # a kill may have come between the result and this
        return _result(known)
    opened = open_reward(scorer, config.reward.weights, prepare(config.device, config.threads))
    pictures.make(output, report)  # after the scorer has opened: damaged weights are reported before hours of work
    table = _scored(opened, pictures, output, folder / _STATE / weights_revision, config.evaluation.batch_size, report)
    result = summarise(_by_style(pictures, table["score"].to_numpy()))
    write_table(folder / SCORES, table)
    origin = {"scorer": scorer, "revision": weights_revision, "unit": "hundredths of cosine"}
    write_json(folder / RESULT, {**origin, **asdict(result), "pictures": pictures.meaning})
    shutil.rmtree(folder / _STATE)
    remove_leftovers(output)
    return result


def _claim(output: Path, meaning: dict[str, Any]) -> None:
    """Take over ``output`` from a run with the same pictures, or begin it."""
    path = output / PICTURES
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in sorted({*known, *meaning}) if known.get(name) != meaning.get(name)]
        if changed:
            raise UserError(
                f"{output}: holds pictures made with another {', '.join(changed)}; delete it or choose another --out"
            )
        return
    # A kill while this very file was written leaves nothing but its temporary one.
    if output.exists() and (not output.is_dir() or not all(is_temporary(each) for each in output.iterdir())):
        raise UserError(f"{output}: exists and is not empty; delete it or choose another --out")
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, meaning)
    remove_leftovers(output)


def _scored(scorer: Scorer, pictures: Pictures, output: Path, state: Path, batch_size: int, report: Report) -> pa.Table:
    """One row per picture."""
    import numpy as np
    import pyarrow as pa

    from qsd.shards import sharded_tables

    places = pictures.places

    def compute(start: int, stop: int) -> pa.Table:
        scores = []
        for first in range(start, stop, batch_size):
            last = min(first + batch_size, stop)
            captions = [place.caption for place in places[first:last]]
            scores.append(scorer.score(pictures.read(output, first, last), captions))
            report(last, len(places), "scores")
        return pa.table({"score": pa.array(np.concatenate(scores))})

    shards = list(sharded_tables(state, len(places), SHARD_IMAGES, compute, report, "scores"))
    columns: dict[str, Any] = {
        "style": pa.array([place.style for place in places]),
        "number": pa.array([place.number for place in places], pa.int32()),
        "prompt_id": pa.array([place.prompt_id for place in places]),
        "caption": pa.array([place.caption for place in places]),
        "score": pa.concat_tables(shards)["score"].combine_chunks(),
    }
    return pa.table(columns)


def _by_style(pictures: Pictures, scores: NDArray[np.float32]) -> dict[str, list[float]]:
    scores_by_style: dict[str, list[float]] = {}
    for place, score in zip(pictures.places, scores.tolist(), strict=True):
        scores_by_style.setdefault(place.style, []).append(score)
    return scores_by_style


def _read(folder: Path) -> dict[str, Any] | None:
    """The finished result in ``folder``, if there is one."""
    path = folder / RESULT
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _result(known: dict[str, Any]) -> BenchmarkResult:
    return BenchmarkResult({name: StyleResult(**style) for name, style in known["styles"].items()}, known["overall"])
