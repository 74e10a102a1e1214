import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.training.batching import BucketedBatches, PaddingCollator, sorted_batches

lengths = st.lists(st.integers(1, 256), min_size=1, max_size=400)


@given(lengths, st.integers(1, 32), st.integers(1, 3), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_each_row_comes_once_per_epoch_over_all_processes(lengths, batch_size, world_size, epoch):
    if len(lengths) < world_size or batch_size < world_size:
        return
    seen = []
    for rank in range(world_size):
        batches = BucketedBatches(lengths, batch_size, seed=1, rank=rank, world_size=world_size)
        batches.set_epoch(epoch)
        own = list(batches)
        assert len(own) == len(batches)
        assert all(own), "a process without rows would leave the others waiting"
        seen += [row for batch in own for row in batch]
    assert sorted(seen) == list(range(len(lengths)))


def test_batches_hold_no_more_than_requested_and_differ_by_one():
    sizes = [len(batch) for batch in BucketedBatches(np.arange(1000), 16, seed=0)]
    assert max(sizes) == 16
    assert min(sizes) >= 15


def test_batches_have_little_padding_and_a_new_order_each_epoch():
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.lognormal(4, 1, 4000).astype(int) + 3, 256)
    batches = BucketedBatches(lengths, 16, seed=0)
    first = list(batches)
    padded = sum(len(batch) * lengths[batch].max() for batch in first)
    assert lengths.sum() / padded > 0.9
    batches.set_epoch(1)
    assert list(batches) != first
    batches.set_epoch(0)
    assert list(batches) == first


@pytest.mark.parametrize("world_size", [1, 2])
def test_weights_draw_rare_rows_more_often_and_stay_bucketed(world_size):
    lengths = np.tile(np.arange(1, 201), 20)
    weights = np.where(np.arange(4000) < 400, 9.0, 1.0)
    drawn = []
    for rank in range(world_size):
        batches = list(BucketedBatches(lengths, 16, seed=0, weights=weights, rank=rank, world_size=world_size))
        drawn += [row for batch in batches for row in batch]
        padded = sum(len(batch) * lengths[batch].max() for batch in batches)
        assert sum(lengths[batch].sum() for batch in batches) / padded > 0.9
    assert len(drawn) == 4000
    assert np.mean(np.array(drawn) < 400) == pytest.approx(0.5, abs=0.03)


@given(lengths, st.integers(1, 64), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_prediction_batches_cover_every_row_once(lengths, batch_size, world_size):
    shares = [
        sorted_batches(np.array(lengths), batch_size, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    assert sorted(row for share in shares for batch in share for row in batch) == list(range(len(lengths)))


@pytest.mark.parametrize("side", ["right", "left"])
def test_collator_pads_to_the_longest_rounded_up(side):
    rows = [{"input_ids": [5, 6, 7], "labels": [1.0, 0.0]}, {"input_ids": list(range(1, 10)), "labels": [0.0, 1.0]}]
    batch = PaddingCollator(pad_token_id=0, padding_side=side)(rows)
    assert batch["input_ids"].shape == (2, 16)
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 9]
    assert batch["input_ids"][0][batch["attention_mask"][0].bool()].tolist() == [5, 6, 7]
    assert batch["labels"].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_an_epoch_takes_a_part_of_the_optional_rows_and_the_epochs_go_through_all_of_them():
    optional = np.arange(1000) >= 100
    batches = BucketedBatches(np.full(1000, 5), 32, seed=3, optional=optional, n_optional=300)
    epochs = []
    for epoch in range(4):
        batches.set_epoch(epoch)
        rows = [row for batch in batches for row in batch]
        assert len(rows) == batches.n_rows == 400
        assert set(range(100)) <= set(rows)
        epochs.append(set(rows) - set(range(100)))
        assert len(epochs[-1]) == 300
    assert not epochs[0] & epochs[1]
    assert epochs[0] | epochs[1] | epochs[2] == set(range(100, 1000))
    assert epochs[3] == epochs[0], "the fourth starts the circle again"


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_an_epoch_of_a_part(world_size):
    optional = np.arange(50) % 5 > 0
    options = {"seed": 0, "optional": optional, "n_optional": 10, "world_size": world_size}
    loaders = [BucketedBatches(np.arange(50), 8, rank=rank, **options) for rank in range(world_size)]
    rows = [row for batches in loaders for batch in batches for row in batch]
    assert len(rows) == len(set(rows)) == 20
    assert len({len(batches) for batches in loaders}) == 1
