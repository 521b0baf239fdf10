"""What a data set, a model and a folder of reward models say about the experiment that uses them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qsd.config.near_paths import suggest_path
from qsd.errors import UserError

ABSENT = "nothing is there yet"
"""How the remark about a path begins that leads to nothing."""
_JUDGES = 4
"""Reward models that evaluate, if so many are there."""


@dataclass
class Findings:
    """Fields of an experiment by dotted name.

    Attributes:
        values: what was found or given.
        remarks: why a value is what it is.
        missing: fields that were not found -> what to put there.
    """

    values: dict[str, Any] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def find(data: str, model: str, weights: str | None, prompts: str | None, reader: str | None) -> Findings:
    """Look at what an experiment is to use; nothing is downloaded and no library for tensors is loaded.

    Args:
        data: path of the preference pairs; it need not be there yet.
        model: diffusers folder or hub name.
        weights: folder with one folder per reward model, if known.
        prompts: prompts that compare cells, if known.
        reader: layout of the data, if it is not to be recognised.

    Raises:
        UserError: the data is there, but in no known layout or in several; the model is no diffusers folder;
            or the prompts are damaged.
    """
    findings = Findings({"data.path": data, "model.path": model})
    _of_data(findings, Path(data).expanduser(), reader)
    _of_model(findings, model)
    _of_rewards(findings, weights)
    _of_prompts(findings, prompts)
    return findings


def _of_data(findings: Findings, path: Path, reader: str | None) -> None:
    from qsd.data.opening import open_path

    if not path.exists():
        findings.remarks["data.path"] = f"{ABSENT}{suggest_path(path)}; docs/data.md says how to get data"
        if reader is None:
            findings.missing["data.reader"] = "the layout of the data; docs/data.md shows them"
        else:
            findings.values["data.reader"] = reader
        return
    name, source = open_path(path, reader)
    findings.values["data.reader"] = name
    findings.remarks["data.reader"] = "given" if reader else "recognised by its layout"
    findings.remarks["data.path"] = f"{len(source):,} rows"


def _of_model(findings: Findings, model: str) -> None:
    from qsd.config.digest import is_hub_name
    from qsd.models.families import family_in, read_index
    from qsd.models.folder_checks import downloaded, read_object

    local = Path(model).expanduser()
    on_hub = is_hub_name(model)
    folder = local if local.is_dir() else downloaded(model) if on_hub else None
    if folder is None:
        findings.remarks["model.path"] = "not on this machine" if on_hub else f"{ABSENT}{suggest_path(local)}"
        findings.missing["model.resolution"] = "pixels per side that the model was trained with, such as 512 or 1024"
        return
    try:
        index = read_index(folder)
    except (OSError, ValueError):
        raise UserError(
            f"--model {model}: no readable model_index.json; a diffusers folder or a hub name is needed"
        ) from None
    family = family_in(index, model)
    findings.remarks["model.path"] = family.pipeline
    network, vae = read_object(folder / family.network / "config.json"), read_object(folder / "vae" / "config.json")
    size = network.get("sample_size")
    if isinstance(size, int) and "block_out_channels" in vae:
        findings.values["model.resolution"] = size * family.pixels_per_latent(vae)
        findings.remarks["model.resolution"] = f"from the model: {size} latents per side"
    else:
        findings.missing["model.resolution"] = "pixels per side; the model does not state it"
    findings.values["lora.targets"] = list(family.lora_targets)
    findings.remarks["lora.targets"] = f"usual for {family.pipeline}"


def _of_prompts(findings: Findings, prompts: str | None) -> None:
    from qsd.config.load import defaults
    from qsd.data.prompts import read_splits

    if prompts is None:
        findings.missing["evaluation.prompts"] = "a CSV with the columns prompt_id, caption, split"
        return
    findings.values["evaluation.prompts"] = prompts
    path = Path(prompts).expanduser()
    if not path.exists():
        findings.remarks["evaluation.prompts"] = f"{ABSENT}{suggest_path(path)}"
        return
    read_splits(path, [])  # a damaged file is an error, and not one without the usual splits
    usual: list[str] = defaults()["evaluation.splits"]
    present: list[str] = []
    problem = ""
    for split in usual:
        try:
            read_splits(path, [split], 1)
            present.append(split)
        except UserError as error:
            problem = str(error)
    if not present:
        findings.missing["evaluation.splits"] = f"a list of splits of the prompts: {problem}"
    elif present != usual:
        findings.values["evaluation.splits"] = present
        findings.remarks["evaluation.splits"] = "of the usual splits, those in the file"


def _of_rewards(findings: Findings, weights: str | None) -> None:
    from qsd.rewards.listing import listing

    if weights is None:
        findings.missing["reward.weights"] = "folder with one folder per reward model (qsd fetch NAME --weights FOLDER)"
        present = []
    else:
        findings.values["reward.weights"] = weights
        present = [line for line in listing(Path(weights)) if line.revision is not None]
    here = [line for line in present if _has_folder(line.name, Path(weights or "."))]
    selecting = [line.name for line in here if line.selects]
    if selecting:
        findings.values["reward.model"] = selecting[0]
        others = f"; also here: {', '.join(selecting[1:])}" if selecting[1:] else ""
        findings.remarks["reward.model"] = f"found in reward.weights{others}"
    else:
        findings.missing["reward.model"] = "a reward model that ranks the pairs (qsd rewards lists them)"
    independent = sorted(here, key=lambda line: line.selects)  # those that may never rank pairs first
    judges = [line.name for line in independent if line.name != findings.values.get("reward.model")][:_JUDGES]
    if judges:
        findings.values["evaluation.scorers"] = judges
        findings.remarks["evaluation.scorers"] = "found in reward.weights; the first one decides"
    else:
        findings.missing["evaluation.scorers"] = "a list of reward models other than reward.model"


def _has_folder(name: str, weights: Path) -> bool:
    """Whether a reward model has weights of its own here; some need none and are always present."""
    from qsd.rewards.scorers import REGISTRY

    folder = REGISTRY.get(name).folder
    return bool(folder) and (weights.expanduser() / folder).is_dir()
