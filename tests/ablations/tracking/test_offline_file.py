"""Files of offline runs: read and written without loss, and refused where they are damaged or incomplete."""

from __future__ import annotations

import pytest
from wandb.proto import wandb_internal_pb2 as protobuf

from ablations.tracking.offline_file import file_of, records, set_times
from ablations.tracking.times import Times
from tests.ablations.tracking.wandb_file import payloads, read_run

BLOCK = 32768


@pytest.mark.parametrize("first", [0, 1, BLOCK - 7 - 7 - 8, BLOCK - 7 - 7 - 7, BLOCK - 7 - 7, BLOCK - 7, 3 * BLOCK])
def test_records_of_every_length_come_back(first):
    """The first record ends before, in and behind the last seven bytes of a block, in which no part begins."""
    wanted = [bytes([number % 251]) * length for number, length in enumerate((first, 5, 0, 2 * BLOCK, 9))]
    content = file_of(wanted)
    assert list(records(content)) == wanted
    assert list(payloads(content)) == wanted


@pytest.mark.parametrize("damage", ["header", "byte", "end"])
def test_damage_is_refused(damage):
    content = bytearray(file_of([b"a" * 100, b"b" * 100]))
    content = {"header": b"x" + content[1:], "byte": content[:50] + b"c" + content[51:], "end": content[:-1]}[damage]
    with pytest.raises(ValueError, match=r"not a file|damaged"):
        list(records(bytes(content)))


def record(**fields):
    return protobuf.Record(**fields).SerializeToString()


def test_times_are_those_of_the_computation_and_an_unfinished_file_is_refused(tmp_path):
    items = [protobuf.HistoryItem(key=key, value_json="1.5") for key in ("_runtime", "_timestamp", "train/loss")]
    summary = [protobuf.SummaryItem(nested_key=["_wandb", "runtime"], value_json="3")]
    parts = [
        record(run=protobuf.RunRecord(run_id="r")),
        record(history=protobuf.HistoryRecord(item=items)),
        record(summary=protobuf.SummaryRecord(update=summary)),
    ]
    path = tmp_path / "run.wandb"
    path.write_bytes(file_of(parts))
    with pytest.raises(ValueError, match=r"run\.wandb: wandb has not written the end of the run"):
        set_times(path, Times(1000.0, {}, 60.4))
    path.write_bytes(file_of([*parts, record(exit=protobuf.RunExitRecord(exit_code=0, runtime=3))]))
    set_times(path, Times(1000.0, {}, 60.4))
    run = read_run(path)
    assert run.run.start_time.ToSeconds() == 1000
    assert run.history == [{"_runtime": 60, "_timestamp": 1060.4, "train/loss": 1.5}]
    assert run.summary == {"_wandb/runtime": 60}
    assert run.runtime == 60
