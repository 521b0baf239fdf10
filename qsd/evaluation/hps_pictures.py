"""The pictures of the HPS v2 benchmark: made by the generate stage's own code, or files that are there already.

Generated ones lie in ``OUT/images`` as the artefact of stage generate; picture n of style s starts from the initial
noise of prompt ``s/0000n``, index 0, whatever adapter there is, so that two results compare pair by pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from qsd.data.style_lists import STYLES, read_styles
from qsd.errors import UserError
from qsd.evaluation.hps_benchmark import image_paths

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from qsd.config.load import Flat
    from qsd.runtime import Report

SET_BY_BENCHMARK = (
    "adapter",
    "evaluation.prompts",
    "evaluation.prompts_per_split",
    "evaluation.scorers",
    "evaluation.splits",
    "generation.images_per_prompt",
)
"""Fields of an experiment that the benchmark decides."""


@dataclass(frozen=True)
class BenchmarkPrompt:
    """One prompt of the benchmark: its style, its place in the style's list, its text."""

    style: str
    number: int
    caption: str

    @property
    def prompt_id(self) -> str:
        """``anime/00012``."""
        return f"{self.style}/{self.number:05d}"


class Pictures(Protocol):
    """One picture for every place."""

    places: list[BenchmarkPrompt]
    meaning: dict[str, Any]
    """What they were made with, or the digest of the files."""

    def make(self, output: Path, report: Report) -> None:
        """Make those that are not there yet."""

    def read(self, output: Path, start: int, stop: int) -> list[Image.Image]:
        """Pictures ``start`` to ``stop - 1`` as RGB."""


def styles_of(folder: Path) -> list[str]:
    """The published four styles, without what lies beside them; or all lists of a benchmark of one's own.

    Raises:
        UserError: no folder, no lists, or some but not all of the published styles.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no folder of prompts; --prompts is a folder with one <style>.json per style")
    styles = sorted(path.stem for path in folder.glob("*.json"))
    missing = [style for style in STYLES if style not in styles]
    if not styles or (missing and len(missing) < len(STYLES)):
        raise UserError(f"{folder}: no prompts of style {missing[0]!r}; it has {', '.join(styles) or 'no *.json'}")
    return styles if missing else list(STYLES)


def places_of(folder: Path) -> list[BenchmarkPrompt]:
    """Every prompt of the benchmark in ``folder``, style by style, in the order of the files."""
    prompts = read_styles(folder, styles_of(folder))
    return [
        BenchmarkPrompt(style, number, text) for style, texts in prompts.items() for number, text in enumerate(texts)
    ]


class Generated:
    """Pictures of the experiment's model, with or without an adapter.

    Args:
        flat: the experiment.
        prompts: folder of the benchmark's lists.
        adapter: result of stage train, or the folder with its adapter; None is the base model.
    """

    def __init__(self, flat: Flat, prompts: Path, adapter: Path | None) -> None:
        from qsd.config.load import override
        from qsd.stages.spec import stage_meaning

        self.places = places_of(prompts)
        self._adapter = adapter
        self._flat = override(
            flat,
            {
                "adapter": "trained" if adapter else "none",
                "evaluation.prompts": str(prompts),
                "evaluation.prompts_per_split": None,
                "evaluation.splits": list(dict.fromkeys(place.style for place in self.places)),
                "generation.images_per_prompt": 1,
            },
        )
        digests = _digests(adapter) if adapter else {}
        self.meaning = {**stage_meaning("generate", self._flat), **digests}

    def make(self, output: Path, report: Report) -> None:
        """Run stage generate into ``output/images``."""
        from qsd.config.load import build
        from qsd.runtime import StageContext
        from qsd.stages.generate import run as generate

        inputs = {"train": self._adapter} if self._adapter else {}
        folder = output / "images"
        folder.mkdir(parents=True, exist_ok=True)
        generate.run(StageContext(build(self._flat), inputs, folder, report))

    def read(self, output: Path, start: int, stop: int) -> list[Image.Image]:
        """From the artefact of stage generate.

        Raises:
            UserError: a shard is missing, damaged, or of other prompts.
        """
        from qsd.generation.images import SHARD_IMAGES, read_shard, shard_path

        images: list[Image.Image] = []
        for number in range(start // SHARD_IMAGES, -(-stop // SHARD_IMAGES)):
            path = shard_path(output / "images", number)
            shard = list(read_shard(path))
            ids = [place.prompt_id for place in self.places[number * SHARD_IMAGES : (number + 1) * SHARD_IMAGES]]
            if [item.prompt_id for item in shard] != ids:
                raise UserError(f"{path}: holds images of other prompts; delete it and run the benchmark again")
            first = number * SHARD_IMAGES
            images += [item.image for item in shard[max(0, start - first) : stop - first]]
        return images


class Files:
    """Pictures that are there: ``<style>/00000.jpg``, …, as the published benchmark has them.

    Raises:
        UserError: some are missing.
    """

    def __init__(self, folder: Path, prompts: Path) -> None:
        from qsd.config.digest import digest

        self.places = places_of(prompts)
        paths = image_paths(folder, read_styles(prompts, styles_of(prompts)))
        self._paths = [path for of_style in paths.values() for path in of_style]
        self.meaning = {"files": digest(folder), "evaluation.prompts": digest(prompts)}

    def make(self, output: Path, report: Report) -> None:
        """They are there."""

    def read(self, output: Path, start: int, stop: int) -> list[Image.Image]:
        """Decoded files.

        Raises:
            UserError: one is damaged.
        """
        from qsd.data.images import decode

        images = []
        for path in self._paths[start:stop]:
            try:
                images.append(decode(path.read_bytes()))
            except ValueError as error:
                raise UserError(f"{path}: {error}; an image left out would shift the groups") from None
        return images


def _digests(adapter: Path) -> dict[str, str]:
    """Digests of the adapter's weights, and of PEFT's settings if it has some."""
    from qsd.adapters.locate import find_adapter
    from qsd.config.digest import digest

    files = find_adapter(adapter)
    settings = {"adapter.config.digest": digest(files.config)} if files.config else {}
    return {"adapter.digest": digest(files.weights), **settings}
