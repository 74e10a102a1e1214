"""Progress: a line a minute without a terminal, the rate of this run alone; steps of a few seconds."""

import itertools
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.scoring.progress import CHARACTERS_AT_ONCE, STEP_S, Pace, Progress, some_at_once


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def lines_of(caplog):
    return [record.getMessage() for record in caplog.records]


def test_without_a_terminal_a_minute_gives_a_line(caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    with Progress(10_000, on_terminal=False, clock=clock) as progress:
        for _ in range(30):
            clock.now += 10
            progress.advance(100)
    assert lines_of(caplog) == [
        "600 of 10,000 rows (6%), 10.0 rows/s, about 16 minutes left",
        "1,200 of 10,000 rows (12%), 10.0 rows/s, about 15 minutes left",
        "1,800 of 10,000 rows (18%), 10.0 rows/s, about 14 minutes left",
        "2,400 of 10,000 rows (24%), 10.0 rows/s, about 13 minutes left",
        "3,000 of 10,000 rows (30%), 10.0 rows/s, about 12 minutes left",
    ]


def test_rows_that_were_kept_do_not_count_for_the_rate(caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    with Progress(10_000, on_terminal=False, clock=clock) as progress:
        clock.now += 30  # reading them again
        progress.keep(9_000)
        for _ in range(6):
            clock.now += 10
            progress.advance(50)
    assert lines_of(caplog) == ["9,300 of 10,000 rows (93%), 5.0 rows/s, about 2 minutes left"]


def test_kept_rows_between_new_ones_do_not_count_either():
    clock = Clock()
    progress = Progress(1_000, on_terminal=False, clock=clock)
    clock.now += 10
    progress.advance(100)
    progress.keep(500)
    clock.now += 10
    progress.advance(100)
    assert progress.describe() == "700 of 1,000 rows (70%), 10.0 rows/s, about 30 seconds left"


@pytest.mark.parametrize(
    ("read", "share", "said"),
    [
        (2_000, 0.0, "500 rows, 5.0 rows/s"),
        (2_000, 0.2, "500 of about 10,000 rows (5%), 5.0 rows/s, about 32 minutes left"),
        (500, 1.0, "500 of about 500 rows (100%), 5.0 rows/s, about 0 seconds left"),
        (2_000, 1.0, "500 of about 2,000 rows (25%), 5.0 rows/s, about 5 minutes left"),
    ],
)
def test_without_a_number_of_rows_the_share_of_the_file_shows_the_progress(read, share, said):
    clock = Clock()
    progress = Progress(None, on_terminal=False, clock=clock)
    progress.expect(read, share)
    clock.now += 100
    progress.advance(500)
    assert progress.describe() == said


def test_a_bar_on_a_terminal_counts_only_new_rows(capsys):
    clock = Clock()
    with Progress(1_000, on_terminal=True, clock=clock) as progress:
        progress.keep(900)
        clock.now += 10
        progress.advance(20)
        bar = progress._bar
        assert (bar.n, bar.initial, bar.total) == (920, 900, 1000)
        assert bar.format_dict["elapsed"] >= 10, "so that its rate is 2 rows/s, not 92"
        progress.keep(30)
        assert bar.n - bar.initial == 20
    assert "Score" in capsys.readouterr().err


@given(st.lists(st.integers(0, 10**7), max_size=60), st.floats(1e-7, 1e3))
def test_steps_hold_every_row_once(sizes, seconds_per_character):
    clock = Clock()
    place = 0
    for start, stop in Pace(clock).steps(sizes):
        assert start == place < stop
        place = stop
        clock.now += sum(sizes[start:stop]) * seconds_per_character
    assert place == len(sizes)


@pytest.mark.parametrize("rate", [500, 20_000, 1_000_000])
def test_steps_come_to_take_a_few_seconds(rate):
    clock, pace, taken = Clock(), Pace(), []
    pace = Pace(clock)
    for start, stop in pace.steps([150] * 100_000):
        seconds = (stop - start) * 200 / rate
        clock.now += seconds
        taken.append(seconds)
        if len(taken) == 20:
            break
    assert max(taken) <= max(1.1 * STEP_S, 4000 / rate + 0.5)
    assert taken[-1] >= min(0.9 * STEP_S, 4000 / rate)


def test_a_step_after_quick_rows_is_no_more_than_four_times_as_large():
    clock = Clock()
    sizes = []
    for start, stop in Pace(clock).steps([0] * 100_000):
        sizes.append(stop - start)
    assert all(later <= 4 * earlier + 4 for earlier, later in itertools.pairwise(sizes))


def test_texts_are_yielded_in_parts_of_limited_size():
    texts = ["a"] * 1_100 + ["b" * (CHARACTERS_AT_ONCE // 2)] * 3 + ["c" * (2 * CHARACTERS_AT_ONCE)] + ["d"] * 2
    parts = list(some_at_once(texts, "Texts"))
    assert [text for part in parts for text in part] == texts
    assert [len(part) for part in parts] == [500, 500, 101, 2, 1, 2]
    assert list(some_at_once([], "Texts")) == []
