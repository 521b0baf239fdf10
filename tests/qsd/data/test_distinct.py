"""The distinct (image, caption) of pairs, and the order in which they are scored."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsd.data.distinct import distinct, distinct_count, numbers
from qsd.rewards.requests import requests_of

uids = st.one_of(
    st.lists(st.text(alphabet="0123456789abcdef", min_size=16, max_size=16), max_size=12),
    st.lists(st.text(alphabet="0aé", max_size=17), max_size=12),
    st.lists(st.sampled_from(["0" * 16, "f" * 16, "0" * 15 + "g", "0" * 15 + "A", "0" * 15]), max_size=12),
)
few = [f"{number:016x}" for number in (0, 7, 1 << 63, (1 << 64) - 1)]
some_pairs = st.lists(
    st.tuples(st.sampled_from(few), st.sampled_from(few), st.sampled_from(["cat", "dog", *few])), max_size=12
)


def table(rows: list[tuple[str, str, str]], cut: int = 0, encoded: bool = False) -> pa.Table:
    """Pairs (winner, loser, caption) in two chunks; every second row of the source is no pair."""
    made = [
        pa.table(
            {
                **{
                    name: pa.array([row[place] for row in part], pa.string())
                    for place, name in enumerate(("winner_uid", "loser_uid", "caption"))
                },
                "source_row": pa.array(range(start, start + 2 * len(part), 2), pa.int64()),
            }
        )
        for start, part in ((0, rows[:cut]), (2 * len(rows[:cut]), rows[cut:]))
    ]
    if encoded:
        made = [part.set_column(2, "caption", part["caption"].dictionary_encode()) for part in made]
    return pa.concat_tables(made)


@given(first=uids, second=uids, cut=st.integers(0, 12))
def test_equal_texts_have_equal_numbers_and_others_have_not(first: list[str], second: list[str], cut: int) -> None:
    """Whatever the chunks, and also for slices of a longer column."""
    column = pa.chunked_array([pa.array(first[:cut], pa.string()), pa.array(first[cut:], pa.string())])
    sliced = pa.chunked_array([pa.array(["x", *second, "y"], pa.string()).slice(1, len(second))])
    numbered = numbers(column, sliced).tolist()
    both = first + second
    assert [numbered.index(number) for number in numbered] == [both.index(text) for text in both]
    assert distinct_count(numbers(column, sliced)) == len(set(both))


def test_an_image_counts_once_per_caption() -> None:
    """w wins three pairs, two of them under one caption, and loses one under the other."""
    identities = distinct(table([("w", "a", "cat"), ("w", "b", "cat"), ("w", "a", "dog"), ("v", "w", "dog")]))
    assert len(identities.one) == len({("w", 0), ("w", 1), ("v", 1), ("a", 0), ("b", 0), ("a", 1)})
    np.testing.assert_array_equal(identities.item[identities.one], np.arange(6))
    assert identities.item[0] == identities.item[1] != identities.item[2] == identities.item[7]
    assert identities.caption.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("encoded", [False, True])
@given(rows=some_pairs, cut=st.integers(0, 12))
def test_the_distinct_are_those_of_the_texts(encoded: bool, rows: list[tuple[str, str, str]], cut: int) -> None:
    """Also for captions that look like uids, and for dictionaries that differ between chunks."""
    identities = distinct(table(rows, cut, encoded))
    pictures = [row[0] for row in rows] + [row[1] for row in rows]
    captions = [row[2] for row in rows] * 2
    both = [f"{picture} {caption}" for picture, caption in zip(pictures, captions, strict=True)]
    for numbered, texts in ((identities.item, both), (identities.image, pictures), (identities.caption, captions)):
        listed = numbered.tolist()
        assert [listed.index(number) for number in listed] == [texts.index(text) for text in texts]
        assert set(listed) == set(range(len(set(texts))))
    np.testing.assert_array_equal(identities.item[identities.one], np.arange(len(set(both))))


@given(rows=some_pairs, cut=st.integers(0, 12))
def test_requests_follow_the_source(rows: list[tuple[str, str, str]], cut: int) -> None:
    """Images by where the source has them first, winner before loser; under each its captions in the same order."""
    pairs = table(rows, cut)
    identities = distinct(pairs)
    requests = requests_of(pairs, identities)
    met: dict[str, int] = {}
    captions: dict[str, list[str]] = {}
    for number, (winner, loser, caption) in enumerate(rows):
        for uid, side in ((winner, 0), (loser, 1)):
            met.setdefault(uid, 2 * (2 * number) + side)
            if caption not in captions.setdefault(uid, []):
                captions[uid].append(caption)
    expected = [(uid, caption) for uid in met for caption in captions[uid]]
    assert requests.images.tolist() == [met[uid] for uid, _ in expected]
    assert requests.captions_of(0, len(requests)) == [caption for _, caption in expected]
    answers = np.empty(len(expected), dtype=object)
    answers[requests.item] = expected
    asked = [(row[0], row[2]) for row in rows] + [(row[1], row[2]) for row in rows]
    assert [answers[item] for item in identities.item] == asked
