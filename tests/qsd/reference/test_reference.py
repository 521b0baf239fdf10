"""Reference errors shared by cells: the same bits as computing them in every step, whatever happens to the files."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qsd.reference.identity import environment_key, fingerprints, folder_name
from qsd.reference.store import ErrorStore
from qsd.stages.train import run as train
from qsd.training.engine import Engine
from qsd.training.offpolicy.batches import PairBatch
from qsd.training.offpolicy.denoising_errors import model_errors, reference_errors
from qsd.training.offpolicy.method import PairsMethod
from tests.qsd import tiny_world
from tests.qsd.tiny_stages import TinyStages, pair_ids, select, trainer
from tests.qsd.training.stopping import StoppedError, files, stop_after

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SETTINGS = {"training__steps": 3, "training__pairs_per_step": 8, "training__micro_batch": 3}


def run(world: TinyStages, output: Path, shared: Path | None, report: Any = None, **settings: Any) -> dict[str, bytes]:
    """The artefact of a training that shares reference errors."""
    context = tiny_world.context(world.config(**{**SETTINGS, **settings}), output, **world.artefacts)
    context = replace(context, reference_errors=shared, **({"report": report} if report else {}))
    train.run(context)
    return files(output)


def with_store(world: TinyStages, shared: Path, **settings: Any) -> Engine[PairsMethod]:
    """A trainer as the stage makes it, on a store."""
    return trainer(world, shared=shared, **{**SETTINGS, **settings})


def cache_lines(capsys: pytest.CaptureFixture[str]) -> str:
    """The line about reference errors."""
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("reference errors:")]
    assert lines
    return "\n".join(lines)


def part(batch: PairBatch, places: list[int]) -> PairBatch:
    """Some pairs of a batch, in another order."""
    both = torch.tensor([*places, *(place + len(batch.pair_ids) for place in places)])
    return PairBatch(
        [batch.pair_ids[place] for place in places],
        batch.latents[both],
        batch.noise[both],
        batch.timesteps[both],
        {field: tensor[both] for field, tensor in batch.conditioning.items()},
        batch.weights[places],
        batch.dropout_keys[places],
    )


@dataclass(frozen=True)
class Filled:
    """A training without a store, and the same one that has filled a store: artefacts, what they printed, the store."""

    online: dict[str, bytes]
    online_lines: str
    shared: dict[str, bytes]
    shared_lines: str
    folder: Path

    def copy(self, folder: Path) -> Path:
        """The store, to be changed."""
        return shutil.copytree(self.folder, folder)


@pytest.fixture(scope="module")
def filled(world: TinyStages, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    root = tmp_path_factory.mktemp("filled")
    with contextlib.redirect_stdout(io.StringIO()) as alone:
        online = run(world, root / "online", None)
    with contextlib.redirect_stdout(io.StringIO()) as filling:
        shared = run(world, root / "filling", root / "shared")
    return Filled(online, alone.getvalue(), shared, filling.getvalue(), root / "shared")


def test_cells_that_share_errors_end_in_the_bytes_of_a_cell_that_does_not(
    world: TinyStages, tmp_path: Path, filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two losses, ranks and betas on one store; the second finds all."""
    shared, pairs, online = filled.copy(tmp_path / "shared"), 3 * 8, filled.online
    assert "reference errors: computed in every step" in filled.online_lines
    assert filled.shared == online
    assert f"0 found, {pairs} computed" in filled.shared_lines
    assert run(world, tmp_path / "c", shared) == online
    assert f"{pairs} found, 0 computed" in cache_lines(capsys)
    other = {"lora__rank": 4, "loss__beta": 900.0, "training__learning_rate": 2e-3}
    with_others = run(world, tmp_path / "d", shared, **other)
    assert f"{pairs} found, 0 computed" in cache_lines(capsys)
    assert run(world, tmp_path / "e", None, **other) == with_others
    assert with_others != online


def test_another_selection_shares_the_pairs_that_both_have(
    world: TinyStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One epoch each; fingerprints hold pair and draw, not the selection."""
    shared, ids = tmp_path / "shared", pair_ids(world)
    one_epoch = {"training__pairs_per_step": 4, "training__micro_batch": 4, "training__steps": 3}
    run(world, tmp_path / "a", shared, **one_epoch)
    capsys.readouterr()
    few = world.with_inputs(select=select(tmp_path / "select", ids[2:10]))
    run(few, tmp_path / "b", shared, **{**one_epoch, "training__steps": 2})
    assert "8 found, 0 computed" in cache_lines(capsys)


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 0.0), ("bf16", 1e-6)])
def test_a_fresh_adapter_has_logits_of_zero_with_shared_errors(
    world: TinyStages, tmp_path: Path, precision: str, allowed: float
) -> None:
    """The contract: computed by another trainer, in batches of other pairs."""
    with_store(world, tmp_path, training__precision=precision).step(1)
    made = with_store(world, tmp_path, training__precision=precision)
    for step in (1, 0):
        for item in made.method.batches.take(step):
            with made.method.kernels():
                winner, loser = model_errors(made.method.denoiser, item.batch, precision)
            assert item.reference is not None
            logits = (item.reference[0] - item.reference[1]) - (winner - loser)
            assert logits.abs().max().item() <= allowed


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_an_error_does_not_depend_on_neighbours_or_place(world: TinyStages, size: int) -> None:
    """What makes errors of (pair, draw) worth keeping: at one size of batch they are the same bits."""
    made = trainer(world)
    whole, random = made.method.stream.batch(0, 12, CPU), np.random.default_rng(size)
    seen: dict[int, set[tuple[float, float]]] = {}
    for _ in range(8):
        places = [int(place) for place in random.permutation(12)[:size]]
        for place, *both in zip(
            places, *reference_errors(made.method.denoiser, part(whole, places), "fp32"), strict=True
        ):
            seen.setdefault(place, set()).add((both[0].item(), both[1].item()))
    assert max(len(values) for values in seen.values()) == 1


def test_names_change_with_every_input_and_the_size_only(world: TinyStages) -> None:
    batch = trainer(world).method.stream.batch(0, 4, CPU)
    first = fingerprints(batch)
    assert len({tuple(row) for row in first}) == 4
    assert (fingerprints(part(batch, [2, 0, 1, 3])) == first[[2, 0, 1, 3]]).all()
    assert not np.isin(fingerprints(part(batch, [0, 1])), first).any()
    for field in ("latents", "noise", "timesteps"):
        for place in (1, 5):
            changed = getattr(batch, field).clone()
            changed[place] += 1
            assert (fingerprints(replace(batch, **{field: changed})) == first).all(axis=1).tolist() == [
                True,
                False,
                True,
                True,
            ]
    hidden = batch.conditioning["hidden_states"].clone()
    hidden[1] += 1
    assert not (fingerprints(replace(batch, conditioning={"hidden_states": hidden}))[1] == first[1]).any()
    more = {**batch.conditioning, "pooled": torch.zeros(8, 2)}
    assert not np.isin(fingerprints(replace(batch, conditioning=more)), first).any()


@pytest.mark.parametrize(
    "other",
    [
        {"training__precision": "bf16"},
        {"training__attention": "flash"},
        {"training__channels_last": True},
        {"training__compile": True},
        {"threads": 2},
    ],
)
def test_other_kernels_have_another_folder(world: TinyStages, other: dict[str, Any]) -> None:
    assert folder_name(world.config(**other), CPU) != folder_name(world.config(), CPU)
    for same in ({"loss__beta": 1.0}, {"lora__rank": 7}, {"training__micro_batch": 2}, {"seed": 3}):
        assert folder_name(world.config(**same), CPU) == folder_name(world.config(), CPU)
    assert environment_key(world.config(), CPU)["torch"] == torch.__version__


def test_another_base_model_has_another_folder(world: TinyStages, tmp_path: Path) -> None:
    from tests.qsd import tiny_pipeline

    other = tiny_pipeline.save(tmp_path / "model", seed=1)
    assert folder_name(world.config(model__path=str(other)), CPU) != folder_name(world.config(), CPU)


def test_a_damaged_file_is_computed_again(
    world: TinyStages, tmp_path: Path, filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = filled.copy(tmp_path / "shared")
    (path,) = shared.glob("*/*.errors")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run(world, tmp_path / "b", shared) == filled.online
    assert "0 found, 24 computed for all cells; 1 damaged files were removed" in cache_lines(capsys)
    assert path.read_bytes() == content


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "whole entries cut"])
def test_a_damaged_file_is_not_read(tmp_path: Path, damage: str) -> None:
    fingerprints = np.arange(8, dtype=np.uint64).reshape(4, 2)
    ErrorStore(tmp_path).add(fingerprints, np.ones((4, 2), dtype=np.float32))
    (path,) = tmp_path.glob("*.errors")
    content = path.read_bytes()
    ways = {"cut": content[:-5], "changed": b"\1" + content[1:], "emptied": b"", "whole entries cut": content[:-24]}
    path.write_bytes(ways[damage])
    store = ErrorStore(tmp_path)
    assert not store.find(fingerprints)[0].any()
    assert store.damaged == 1
    assert not path.exists()


def test_stored_errors_that_do_not_fit_are_not_used(
    world: TinyStages, tmp_path: Path, filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a change of kernels that nobody noticed: an intact file with other numbers."""
    shared = filled.copy(tmp_path / "shared")
    (path,) = shared.glob("*/*.errors")
    entries = np.memmap(path, dtype=[("name", "<u8", 2), ("errors", "<f4", 2)], mode="r").copy()
    path.unlink()
    ErrorStore(path.parent).add(entries["name"], entries["errors"] * np.float32(1 + 1e-6))
    assert run(world, tmp_path / "b", shared) == filled.online
    lines = cache_lines(capsys)
    assert "(allowed: 0); computing them in every step" in lines
    assert "found" not in lines


def test_a_stopped_training_goes_on_with_the_errors_there_are(
    world: TinyStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    online = run(world, tmp_path / "a", None, training__steps=4)
    with pytest.raises(StoppedError):
        run(world, tmp_path / "b", shared, stop_after(3), training__checkpoint_steps=2, training__steps=4)
    capsys.readouterr()
    assert run(world, tmp_path / "b", shared, training__checkpoint_steps=2, training__steps=4) == online
    assert "16 found, 0 computed" in cache_lines(capsys)


def _fill(folder: str, number: int, start: Any) -> None:
    store = ErrorStore(Path(folder))
    start.wait()
    for round_ in range(20):
        rows = np.arange(round_ * 5, round_ * 5 + 10, dtype=np.uint64)
        store.add(np.stack([rows, rows], axis=1), np.stack([rows, rows + 1], axis=1).astype(np.float32))
        store.refresh()


def test_processes_may_add_at_once(tmp_path: Path) -> None:
    """The same entries in the same files, all readable."""
    spawn = multiprocessing.get_context("fork")
    start = spawn.Event()
    workers = [spawn.Process(target=_fill, args=(str(tmp_path), number, start)) for number in range(3)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 3
    store = ErrorStore(tmp_path)
    rows = np.arange(105, dtype=np.uint64)
    present, errors = store.find(np.stack([rows, rows], axis=1))
    assert present.all()
    assert (errors == np.stack([rows, rows + 1], axis=1)).all()
    assert (len(store), store.damaged, len(list(tmp_path.glob("*.errors")))) == (200, 0, 20)
    assert not list(tmp_path.glob("*.tmp"))
    missing, _ = store.find(np.stack([rows, rows + 1], axis=1))
    assert not missing.any()


def test_online_is_a_choice(world: TinyStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(world, tmp_path / "a", tmp_path / "shared", training__reference_errors="online", training__steps=1)
    assert "computed in every step" in cache_lines(capsys)
    assert not (tmp_path / "shared").exists()
