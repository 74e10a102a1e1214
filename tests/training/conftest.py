"""Fixtures of the training tests: encoded examples, one thread."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from moderation.data.encoding import df_to_hfds
from moderation.labels import JIGSAW_LABELS
from moderation.training.batching import PaddingCollator
from moderation.training.model import build_model
from tests.conftest import SEED

N_TRAIN, N_VAL = 64, 64


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny products gain nothing from a second thread, and lose much where another process wants the core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer(tiny_backbone):
    return AutoTokenizer.from_pretrained(tiny_backbone)


@pytest.fixture(scope="session")
def collator(tokenizer):
    return PaddingCollator(tokenizer.pad_token_id, tokenizer.padding_side)


@pytest.fixture(scope="session")
def train_set(table, tokenizer):
    return df_to_hfds(table.head(N_TRAIN), tokenizer, JIGSAW_LABELS, max_length=32)


@pytest.fixture(scope="session")
def val_set(table, tokenizer):
    return df_to_hfds(table.tail(N_VAL), tokenizer, JIGSAW_LABELS, max_length=32)


@pytest.fixture(scope="session")
def targets(table):
    return table.head(N_TRAIN)[list(JIGSAW_LABELS)].to_numpy(np.float32)


@pytest.fixture
def model(tiny_backbone):
    """A classifier of six labels whose logits differ clearly from text to text, unlike those of a fresh small one."""
    torch.manual_seed(SEED)
    model = build_model(tiny_backbone, JIGSAW_LABELS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and "LayerNorm" not in name:
                parameter.normal_(std=0.15)
    return model
