"""LoRA adapters of any known layout, read completely: a tensor that would not be used is an error.

W ← W + scale · B A        B A of a linear layer; the convolution of the two of a convolution layer
W ← W m / |W|              after that with DoRA: every row of W gets the length m
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import conv2d

from qsd.adapters.layouts import MAGNITUDE, Place, place_of, refused_kind
from qsd.adapters.locate import PEFT_CONFIG, AdapterFiles
from qsd.adapters.scale import PeftSettings, read_metadata, read_peft_config
from qsd.errors import UserError
from qsd.weights import check_finite, check_types, listed, read_header


@dataclass(frozen=True)
class LoraLayer:
    """The adapter of one layer.

    Attributes:
        down: A, fp32, [rank, in], or [rank, in, height, width] of a convolution.
        up: B, fp32, [out, rank], or [out, rank, 1, 1].
        scale: of their product.
        magnitude: the lengths of the rows of the sum, [out]; None without DoRA.
    """

    down: Tensor
    up: Tensor
    scale: float
    magnitude: Tensor | None = None

    def change(self, weight: Tensor) -> None:
        """Put the adapter into a layer's weight, fp32, in place."""
        weight += self.delta()
        if self.magnitude is not None:
            lengths = weight.flatten(1).norm(dim=1)
            weight *= (self.magnitude / lengths).reshape(-1, *(1 for _ in weight.shape[1:]))

    def delta(self) -> Tensor:
        """What is added to the layer's weight, in its shape, before DoRA gives the sum's rows their length."""
        if self.down.ndim == 2:
            return self.up @ self.down * self.scale
        if self.down.shape[2:] == (1, 1):
            return (self.up[..., 0, 0] @ self.down[..., 0, 0])[..., None, None] * self.scale
        return conv2d(self.down.transpose(0, 1), self.up).transpose(0, 1) * self.scale


@dataclass(frozen=True)
class Layers:
    """What an adapter may change.

    Attributes:
        network: the pipeline's name for the network.
        shapes: dotted name -> shape of the weight of every linear and convolution layer.
        others: names of the same layers in other programs' layouts, dotted -> dotted name here.
        model: what the network is of, for messages.
    """

    network: str
    shapes: Mapping[str, tuple[int, ...]]
    others: Mapping[str, str]
    model: str

    def underscored(self) -> dict[str, str]:
        """Name with underscores for dots, here or in other programs, -> dotted name here."""
        names = {other.replace(".", "_"): name for other, name in self.others.items()}
        return names | {name.replace(".", "_"): name for name in self.shapes}


def read_adapter(files: AdapterFiles, layers: Layers) -> dict[str, LoraLayer]:
    """The adapted layers by their dotted names, sorted.

    Raises:
        UserError: damaged, of a kind or layout that is not known, for other layers than the network has, with missing
            halves, numbers that are not finite, or a scale that is not known.
    """
    file = files.weights
    header = read_header(file)
    check_types(file, header)
    places = _places(file, list(header.shapes), layers)
    settings = [read_metadata(header.metadata, layers.network, str(file))]
    settings += [read_peft_config(files.config)] if files.config else []
    known = [setting for setting in settings if setting is not None]
    if not known and any(place.layout == "PEFT" for place in places.values()):
        raise UserError(
            f"{file}: PEFT's layout, whose scale is only in {PEFT_CONFIG}; put that file beside it, or save the "
            "adapter with diffusers' save_lora_weights"
        )
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file}: damaged ({error}); copy or fetch it again") from None
    check_finite(str(file), tensors.items())
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, place in places.items():
        parts[place.layer][place.half] = tensors[name].float()
    _check_alphas(file, parts, header.metadata)
    _check_magnitudes(file, parts)
    adapted = {name: _layer(file, name, parts[name], layers.shapes[name], known) for name in sorted(parts)}
    if not any(layer.magnitude is not None or (layer.down.any() and layer.up.any()) for layer in adapted.values()):
        raise UserError(f"{file}: its tensors are zeros: the adapter would change nothing; train or fetch it again")
    return adapted


def _places(file: Path, names: list[str], layers: Layers) -> dict[str, Place]:
    """Tensor name -> its place in the network; every tensor has one, and every layer both halves.

    Raises:
        UserError: with every kind of mistake, and the layout that the file looks like.
    """
    underscored = layers.underscored()
    places: dict[str, Place] = {}
    mistakes: dict[str, list[str]] = defaultdict(list)
    for name in names:
        place = place_of(name, layers.network)
        if kind := refused_kind(name):
            mistakes[f"{kind}, which is not supported"].append(name)
        elif place is None:
            mistakes["not of a layout that is known (diffusers, PEFT, kohya)"].append(name)
        else:
            layer = underscored.get(place.layer, "") if place.underscored else place.layer
            if layer not in layers.shapes:
                mistakes[f"for layers that {layers.model} does not have: an adapter of another model"].append(name)
            places[name] = Place(layer or name, place.half, place.layout)
    halves: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, place in places.items():
        halves[place.layer, place.half].append(name)
    for (layer, half), given in halves.items():
        if len(given) > 1:
            mistakes[f"twice the {half} half of {layer}"] += given
        other = "up" if half == "down" else "down"
        if layer in layers.shapes and (layer, other) not in halves:
            mistakes[f"without the other half ({other})"] += given
    if mistakes or not places:
        if not places and not mistakes:
            raise UserError(f"{file}: has no tensors")
        layouts = sorted({place.layout for place in places.values()})
        described = f"; the layout looks like {' and '.join(layouts)}" if layouts else ""
        count = len({name for given in mistakes.values() for name in given})
        text = "; ".join(f"{kind}: {listed(given)}" for kind, given in mistakes.items())
        raise UserError(f"{file}: {count} of {len(names)} tensors cannot be used: {text}{described}")
    return places


def _check_alphas(file: Path, parts: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, str]) -> None:
    """Refuse a file of which some alphas are missing."""
    without = [layer for layer, halves in parts.items() if "alpha" not in halves]
    if without and len(without) < len(parts):
        raise UserError(f"{file}: alpha is missing for {len(without)} of {len(parts)} layers ({listed(without)})")
    stated = metadata.get("ss_network_alpha")
    if without and stated is not None:
        ranks = {tuple(halves["down"].shape[:1]) for halves in parts.values()}
        if not _is_number(stated) or {(float(stated),)} != ranks:
            raise UserError(f"{file}: its metadata says alpha {stated}, but its tensors alpha are missing")


def _check_magnitudes(file: Path, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Refuse a file in which some layers are DoRA's and others are not."""
    without = [layer for layer, halves in parts.items() if MAGNITUDE not in halves]
    if without and len(without) < len(parts):
        raise UserError(f"{file}: {MAGNITUDE} is missing for {len(without)} of {len(parts)} layers ({listed(without)})")


def _layer(
    file: Path, name: str, halves: Mapping[str, Tensor], weight: tuple[int, ...], known: list[PeftSettings]
) -> LoraLayer:
    down, up = halves["down"], halves["up"]
    rank = int(down.shape[0]) if down.ndim else 0
    shapes = ((rank, *weight[1:]), (weight[0], rank, *(1 for _ in weight[2:])))
    # A 1 x 1 convolution is a linear layer: programs store it as either.
    if rank == 0 or not (_same(down, shapes[0]) and _same(up, shapes[1])):
        raise UserError(
            f"{file}: {name} has the shapes {tuple(down.shape)} and {tuple(up.shape)}, the layer's weight is {weight}: "
            "an adapter of another model"
        )
    scales = {setting.place: setting.scale(name, rank) for setting in known}
    if "alpha" in halves:
        if halves["alpha"].numel() != 1:
            raise UserError(f"{file}: alpha of {name} has {halves['alpha'].numel()} numbers instead of one")
        scales[f"{file}, tensor alpha"] = float(halves["alpha"]) / rank
    if not all(_close(scale, next(iter(scales.values()))) for scale in scales.values()):
        text = ", ".join(f"{scale:g} ({place})" for place, scale in scales.items())
        raise UserError(f"{file}: several scales of {name}: {text}; leave the right one")
    scale = next(iter(scales.values()), 1.0)
    if scale == 0:
        raise UserError(f"{file}: alpha of {name} is 0: the adapter would change nothing")
    magnitude = _magnitude(file, name, halves.get(MAGNITUDE), weight[0], known)
    return LoraLayer(down.reshape(shapes[0]), up.reshape(shapes[1]), scale, magnitude)


def _magnitude(file: Path, name: str, magnitude: Tensor | None, rows: int, known: list[PeftSettings]) -> Tensor | None:
    """The lengths of a layer's rows, if the adapter is DoRA; settings and tensors must say the same of it."""
    for setting in known:
        if setting.dora != (magnitude is not None):
            raise UserError(
                f"{setting.place}: use_dora is {str(setting.dora).lower()}, but {file} has "
                f"{'no' if magnitude is None else 'a'} {MAGNITUDE} for {name}; save the adapter again"
            )
    if magnitude is None:
        return None
    if magnitude.numel() != rows:
        raise UserError(
            f"{file}: {MAGNITUDE} of {name} has {magnitude.numel()} numbers, the layer has {rows} rows: an adapter of "
            "another model"
        )
    return magnitude.flatten()


def _same(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    given = tuple(tensor.shape)
    return given == shape or (given[:2] == shape[:2] and {*given[2:], *shape[2:]} == {1})


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-6 * max(abs(one), abs(other))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
