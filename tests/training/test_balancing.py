import numpy as np
import pytest
import torch

from moderation.errors import ConfigError, DataError
from moderation.training.balancing import build_balanced_sampler_and_pos_weight

TARGETS = np.array([[1, 0]] * 10 + [[1, 1]] * 2 + [[0, 0]] * 88, dtype=np.float32)


def test_pos_weight_is_negatives_over_positives():
    _, pos_weight = build_balanced_sampler_and_pos_weight(TARGETS)
    assert pos_weight.dtype == torch.float32
    assert pos_weight.tolist() == pytest.approx([88 / 12, 98 / 2])


@pytest.mark.parametrize(
    ("rule", "cap", "expected"),
    [("off", 50, [1, 1]), ("sqrt", 50, [(88 / 12) ** 0.5, 7]), ("balanced", 20, [88 / 12, 20])],
)
def test_rules_and_cap(rule, cap, expected):
    _, pos_weight = build_balanced_sampler_and_pos_weight(TARGETS, rule=rule, cap=cap)
    assert pos_weight.tolist() == pytest.approx(expected)


def test_sampler_meets_each_label_and_none_about_equally_often():
    sampler, _ = build_balanced_sampler_and_pos_weight(np.tile(TARGETS, (50, 1)), seed=0)
    drawn = np.tile(TARGETS, (50, 1))[list(sampler)]
    kinds = [(drawn[:, 1] == 1).mean(), ((drawn[:, 0] == 1) & (drawn[:, 1] == 0)).mean(), (drawn.sum(1) == 0).mean()]
    # Rows of the first label alone weigh 1/12 of it, and there are ten of its twelve.
    assert np.array(kinds) == pytest.approx(np.array([1, 10 / 12, 1]) / (2 + 10 / 12), abs=0.03)


def test_seeded():
    first, again = (list(build_balanced_sampler_and_pos_weight(TARGETS, seed=5)[0]) for _ in range(2))
    assert first == again


def test_a_label_without_positives_is_refused():
    with pytest.raises(DataError, match="no positives"):
        build_balanced_sampler_and_pos_weight([[0, 1], [0, 0]])


def test_fractions_and_wrong_settings_are_refused():
    with pytest.raises(DataError, match="0/1"):
        build_balanced_sampler_and_pos_weight([[0.5, 1]])
    with pytest.raises(ConfigError, match="not off"):
        build_balanced_sampler_and_pos_weight(TARGETS, rule="cubic")
    with pytest.raises(ConfigError, match="cap"):
        build_balanced_sampler_and_pos_weight(TARGETS, cap=0.5)
