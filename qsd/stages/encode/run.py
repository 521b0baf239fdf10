"""Stage encode: VAE posterior of every unique image and text embeddings of every unique caption, once for all cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from qsd.config.schema import ExperimentConfig
from qsd.data.images import PairImages, pair_image_number
from qsd.data.opening import open_source
from qsd.data.problems import Problems
from qsd.device import prepare
from qsd.encoding.pixels import to_pixels
from qsd.encoding.shards import ArrayShards, write_missing
from qsd.errors import UserError
from qsd.files import file_digest, read_table, write_json, write_table
from qsd.models.encoders import ImageEncoder, TextEncoder, load_image_encoder, load_text_encoder
from qsd.runtime import StageContext


@dataclass
class Contents:
    """Unique images and captions of the pairs to encode; rows in order of first appearance in the source."""

    pairs: pa.Table
    images: dict[str, int]
    """uid -> number of the image in its source (``qsd.data.images.pair_image_number``)."""
    captions: list[str]
    """The empty caption first."""


def run(context: StageContext) -> None:
    """Fill ``context.output`` as ``qsd.encoding.store`` describes; continues after the last complete shard.

    Raises:
        UserError: no pairs, or more non-finite latents than ``data.max_rejected_fraction`` allows.
    """
    device = torch.device(prepare(context.config.device, context.config.threads))
    pairs = _pairs(context)
    if not pairs.num_rows:
        raise UserError("there are no pairs to encode; raise selection.fraction or lower selection.threshold")
    contents = unique_contents(pairs)
    model = context.config.model
    latent_shape = _encode_images(context, contents, load_image_encoder(model.path, device, model.vae_precision))
    fields = _encode_captions(context, contents, load_text_encoder(model.path, device))
    _write_index(context, contents, latent_shape, fields)


def unique_contents(pairs: pa.Table) -> Contents:
    """The images and captions of a table of pairs (as in ``pairs.parquet``), each once."""
    pairs = pairs.sort_by("source_row")
    images: dict[str, int] = {}
    captions = {"": None}
    for row in pairs.select(["caption", "winner_uid", "loser_uid", "source_row"]).to_pylist():
        images.setdefault(row["winner_uid"], pair_image_number(row["source_row"], "winner"))
        images.setdefault(row["loser_uid"], pair_image_number(row["source_row"], "loser"))
        captions.setdefault(row["caption"])
    return Contents(pairs, images, list(captions))


def _pairs(context: StageContext) -> pa.Table:
    pairs = read_table(context.inputs["data"] / "pairs.parquet")
    if context.config.encode.scope == "dataset":
        return pairs
    selected = read_table(context.inputs["select"] / "selected.parquet", ["pair_id"])
    return pairs.filter(pc.is_in(pairs["pair_id"], value_set=selected["pair_id"].combine_chunks()))


def _encode_images(context: StageContext, contents: Contents, encoder: ImageEncoder) -> tuple[int, ...]:
    """Write the latents' shards; returns the shape (C, h, w) of one latent."""
    config = context.config
    images = PairImages(open_source(config.data), contents.pairs)
    numbers = list(contents.images.values())

    def compute(start: int, stop: int) -> tuple[npt.NDArray[np.float32], ...]:
        size = config.encode.batch_size
        batches = [numbers[first : min(first + size, stop)] for first in range(start, stop, size)]
        return (np.concatenate([_posterior(images, batch, encoder, config) for batch in batches]),)

    total = len(numbers)
    write_missing(context.output, ("latents",), total, compute, lambda done: context.report(done, total, "images"))
    first = ArrayShards(context.output, "latents", total).take(np.zeros(1, dtype=np.int64))
    return tuple(int(side) for side in first.shape[3:])


def _posterior(
    images: PairImages, numbers: list[int], encoder: ImageEncoder, config: ExperimentConfig
) -> npt.NDArray[np.float32]:
    """Mean and deviation, [B, variants, 2, C, h, w]; all of an image is NaN when one of its numbers is not finite."""
    pixels = to_pixels([images.image(number) for number in numbers], config.model.resolution)
    variants = [pixels, pixels.flip(-1)] if config.training.flip else [pixels]
    rows = torch.stack([torch.stack(encoder.posterior(variant), dim=1) for variant in variants], dim=1)
    finite = rows.isfinite().flatten(1).all(dim=1)
    rows[~finite] = torch.nan
    return rows.cpu().numpy()


def _encode_captions(context: StageContext, contents: Contents, encoder: TextEncoder) -> list[str]:
    """Write one array per field of the conditioning; returns the fields."""
    captions, size = contents.captions, context.config.encode.batch_size
    fields = tuple(sorted(encoder.conditioning([""])))

    def compute(start: int, stop: int) -> tuple[npt.NDArray[np.float32], ...]:
        batches = [
            encoder.conditioning(captions[first : min(first + size, stop)]) for first in range(start, stop, size)
        ]
        return tuple(np.concatenate([batch[field].cpu().numpy() for batch in batches]) for field in fields)

    total = len(captions)
    write_missing(context.output, fields, total, compute, lambda done: context.report(done, total, "captions"))
    return list(fields)


def _write_index(context: StageContext, contents: Contents, latent_shape: tuple[int, ...], fields: list[str]) -> None:
    output = context.output
    uids = list(contents.images)
    rejected = _rejected(output, len(uids))
    problems = Problems()
    for row in np.flatnonzero(rejected):
        problems.add("non_finite_latents", uids[row])
    problems.write(output / "problems.json")
    problems.check_bound("encode", len(uids), context.config.data.max_rejected_fraction)

    def rows(column: str, values: list[str]) -> pa.Array[pa.Int32Scalar]:
        """The row of each value of a column of the pairs among the unique values."""
        return pc.index_in(contents.pairs[column].combine_chunks(), value_set=pa.array(values, pa.string()))

    columns: dict[str, Any] = {
        "pair_id": contents.pairs["pair_id"],
        "winner_row": rows("winner_uid", uids),
        "loser_row": rows("loser_uid", uids),
        "caption_row": rows("caption", contents.captions),
    }
    index = pa.table(columns)
    usable = ~(rejected[index["winner_row"].to_numpy()] | rejected[index["loser_row"].to_numpy()])
    write_table(output / "pairs.parquet", index.filter(pa.array(usable)))
    write_table(output / "images.parquet", pa.table({"uid": pa.array(uids, pa.string())}))
    write_table(output / "captions.parquet", pa.table({"caption": pa.array(contents.captions, pa.string())}))
    write_json(
        output / "summary.json",
        {
            "pairs": int(usable.sum()),
            "of_pairs": len(usable),
            "images": len(uids),
            "captions": len(contents.captions),
            "variants": 2 if context.config.training.flip else 1,
            "latent_shape": list(latent_shape),
            "fields": fields,
            "data_digest": file_digest(context.inputs["data"] / "pairs.parquet"),
        },
    )


def _rejected(folder: Path, total: int) -> npt.NDArray[np.bool_]:
    """[images] True where the latents are marked NaN."""
    shards = ArrayShards(folder, "latents", total)
    return np.array([np.isnan(shards.first_number(row)) for row in range(total)], dtype=np.bool_)
