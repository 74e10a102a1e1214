"""Sketches of training texts: exact of few, fair of many, whatever their order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.data.training_texts import N_KEPT, Seen, count_seen, sketch_texts


@given(st.lists(st.text(max_size=5)), st.lists(st.text(max_size=5)))
def test_each_of_a_few_texts_is_recognised(trained: list[str], asked: list[str]) -> None:
    known = {"".join(text.casefold().split()) for text in trained}
    n_found = sum("".join(text.casefold().split()) in known for text in asked)
    assert count_seen(asked, sketch_texts(trained)) == Seen(len(asked), len(asked), n_found)


@given(st.lists(st.text(max_size=8), min_size=1), st.randoms(use_true_random=False))
def test_the_order_and_repetitions_do_not_matter(texts: list[str], random) -> None:
    shuffled = [*texts, texts[0]]
    random.shuffle(shuffled)
    for most in (1, 3, None):
        assert np.array_equal(sketch_texts(texts, most), sketch_texts(shuffled, most))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_fair_part_of_many_texts_can_be_looked_up(share: float) -> None:
    n_trained, n_asked, most = 20_000, 4_000, 2_000
    sketch = sketch_texts((f"text {number}" for number in range(n_trained)), most)
    assert len(sketch) == most
    first = round(n_trained - share * n_asked)
    seen = count_seen((f"text {number}" for number in range(first, first + n_asked)), sketch, most)
    assert seen.n_texts == n_asked
    assert 300 < seen.n_looked_up < 500, "a tenth"
    assert seen.n_found == pytest.approx(share * seen.n_looked_up, abs=50)
    assert bool(str(seen)) == (share > 0)


def test_a_sketch_has_one_size_whatever_the_table() -> None:
    assert len(sketch_texts(map(str, range(N_KEPT + 100)))) == N_KEPT
    assert len(sketch_texts([])) == 0
    assert count_seen(["a"], sketch_texts([])) == Seen(1, 1, 0)
