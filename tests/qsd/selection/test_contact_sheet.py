"""``qsd show``: the right pairs, each image at its place, one line for what is wrong."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from qsd.config.load import build, load_flat, override
from qsd.data.images import PairImages, pair_image_number
from qsd.data.opening import open_source
from qsd.files import read_table
from qsd.selection import contact_sheet
from tests.qsd.test_cli import EXPERIMENT, qsd
from tests.qsd.tiny_world import good_rows, write_rewards, write_rows

PAIRS = 20


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The experiment, and the results of stages data and score."""
    folder = tmp_path_factory.mktemp("show")
    write_rows(folder / "pairs.parquet", good_rows(PAIRS))
    write_rewards(folder / "rewards")
    experiment = folder / "experiment.yaml"
    experiment.write_text(EXPERIMENT.format(folder=folder))
    with pytest.MonkeyPatch.context() as patch:
        assert qsd(patch, "data", "-e", experiment, "-o", folder / "data") == 0
        assert qsd(patch, "score", "-e", experiment, "-i", f"data={folder / 'data'}", "-o", folder / "score") == 0
    return folder


def config_of(world, **settings):
    return build(override(load_flat(world / "experiment.yaml"), settings))


def test_best_and_worst_by_hand(world):
    """The difference of the scores is Q here, so the order is that of the differences."""
    config = config_of(world, **{"quality.metric": "difference", "quality.normalization": "raw"})
    best, worst = contact_sheet.best_and_worst(config, world / "data", world / "score", 4)
    scores = read_table(world / "score" / "scores.parquet").to_pandas()
    gaps = (scores["winner_score"].astype(float) - scores["loser_score"].astype(float)).to_numpy()
    order = scores["pair_id"].to_numpy()[np.argsort(-gaps, kind="stable")]
    assert [pair.pair_id for pair in best] == order[:4].tolist()
    assert [pair.pair_id for pair in worst] == order[::-1][:4].tolist()
    assert best[0].quality == pytest.approx(gaps.max())
    assert best[0].winner_score - best[0].loser_score == pytest.approx(gaps.max())


def test_no_pair_is_in_both_lists(world):
    best, worst = contact_sheet.best_and_worst(config_of(world), world / "data", world / "score", 15)
    assert len(best) == 15
    assert len(worst) == PAIRS - 15
    assert not {pair.pair_id for pair in best} & {pair.pair_id for pair in worst}


def test_flipped_pairs_show_the_new_winner_on_the_left(world):
    config = config_of(world, **{"data.flip_fraction": 100})
    best, _ = contact_sheet.best_and_worst(config, world / "data", world / "score", 1)
    places = {row["pair_id"]: row["source_row"] for row in read_table(world / "data" / "pairs.parquet").to_pylist()}
    images = PairImages(open_source(config.data))
    original_loser = images.image(pair_image_number(places[best[0].pair_id], "loser"))
    assert np.array_equal(np.asarray(best[0].winner), np.asarray(original_loser))


def test_the_command_writes_the_images_side_by_side(world, tmp_path, monkeypatch, capsys):
    """A plain image of each pair at the place where the sheet has it."""
    red, blue = (Image.new("RGB", (32, 16), colour) for colour in ("red", "blue"))
    pair = contact_sheet.ShownPair("p", "a caption", 0.5, 1.0, 0.0, red, blue)
    sheet = np.asarray(contact_sheet.contact_sheet("title", [pair] * 5, [pair]))
    for colour in ((255, 0, 0), (0, 0, 255)):
        assert (sheet == colour).all(axis=2).sum() == 6 * 32 * 16, "six images, none enlarged, none cut off"
    first_red, first_blue = ((sheet == colour).all(axis=2).nonzero()[1].min() for colour in ((255, 0, 0), (0, 0, 255)))
    assert first_red < first_blue
    inputs = ("-i", f"data={world / 'data'}", "-i", f"score={world / 'score'}")
    out = tmp_path / "new folder" / "pairs.png"
    assert qsd(monkeypatch, "show", "-e", world / "experiment.yaml", *inputs, "-o", out, "-n", "3") == 0
    assert capsys.readouterr().out == f"show: {out} (3 pairs with the highest Q, 3 with the lowest)\n"
    assert Image.open(out).size[0] > 3 * 256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "pairs.jpg"), "give it a name that ends in .png"),
        (("-o", "pairs.png"), "needs --input score=FOLDER"),
        (("-o", "pairs.png", "-i", "select=."), "has no input 'select'"),
        (("-o", "pairs.png", "-n", "0"), "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_one_line(world, monkeypatch, capsys, options, message):
    inputs = ("-i", f"data={world / 'data'}")
    assert qsd(monkeypatch, "show", "-e", world / "experiment.yaml", *inputs, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_select_stage_has_the_same_quality(world, tmp_path, monkeypatch):
    inputs = ("-i", f"data={world / 'data'}", "-i", f"score={world / 'score'}")
    assert qsd(monkeypatch, "select", "-e", world / "experiment.yaml", *inputs, "-o", tmp_path / "select") == 0
    selected = pq.read_table(tmp_path / "select" / "selected.parquet").to_pandas()
    best, _ = contact_sheet.best_and_worst(config_of(world), world / "data", world / "score", len(selected))
    assert [pair.pair_id for pair in best] == selected["pair_id"].tolist()
    assert [pair.quality for pair in best] == pytest.approx(selected["quality"].tolist())
