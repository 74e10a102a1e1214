import sys

import numpy as np
import pytest
import torch

from moderation.labels import JIGSAW_LABELS
from moderation.training.prediction import predict_logits


@pytest.fixture
def one_by_one(model, val_set):
    """Logits of each text alone, unpadded, in the dataset's order."""
    model.eval()
    with torch.no_grad():
        rows = [model(input_ids=torch.tensor([row["input_ids"]])).logits[0] for row in val_set]
    model.train()
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_logits_come_in_the_datasets_order_whatever_the_batch_size(model, val_set, collator, one_by_one, batch_size):
    assert np.ptp(one_by_one, axis=0).min() > 0.1, "texts that all look alike would hide a wrong order"
    assert len(set(val_set["length"])) > 3
    logits = predict_logits(model, val_set, collator, batch_size=batch_size, quiet=True)
    assert logits.dtype == np.float32
    assert logits.shape == (len(val_set), len(JIGSAW_LABELS))
    np.testing.assert_allclose(logits, one_by_one, atol=1e-6)


def test_prediction_needs_no_columns_of_training(model, val_set, collator, one_by_one):
    bare = val_set.select_columns(["input_ids", "attention_mask"])
    np.testing.assert_allclose(predict_logits(model, bare, collator, quiet=True), one_by_one, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_restored(model, val_set, collator, training):
    model.train(training)
    first = predict_logits(model, val_set, collator, quiet=True)
    assert model.training is training
    assert all(module.training is training for module in model.modules())
    assert np.array_equal(first, predict_logits(model, val_set, collator, quiet=True))


def test_no_gradient_and_no_random_number_is_used(model, val_set, collator):
    state = torch.get_rng_state()
    predict_logits(model, val_set, collator, quiet=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_bar_counts_texts_and_can_be_silenced(model, val_set, collator, capsys, monkeypatch):
    predict_logits(model, val_set, collator, description="Predict val")
    assert capsys.readouterr() == ("", ""), "a bar is for a terminal"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    predict_logits(model, val_set, collator, description="Predict val", quiet=True)
    assert capsys.readouterr() == ("", "")
    predict_logits(model, val_set, collator, description="Predict val")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Predict val: 100%" in printed.err
    assert f"{len(val_set)}/{len(val_set)}" in printed.err
