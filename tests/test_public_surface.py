"""What others build on: names, verbs and flags. A change here is a change for users, and belongs into the changelog."""

import argparse
from typing import Any

import pytest

import model_training
import moderation
from moderation.cli import VERBS, build_parser

FLAGS = {
    "score": """
        --log-level INPUT_PATH --text -o --output -m --model --text-column --delimiter --quoting --escape --backend
        --threads --thresholds --threshold --flag-columns --csv-safe --chunk-rows --resume --overwrite
    """,
    "serve": """
        -m --model --host --port --workers --backend --threads --thresholds --threshold --log-level --keys --auth
        --rate-limit --rate-limit-url --cors --public-url --trusted-proxy --feedback-url --map --openai-images
        --perspective-missing --perspective-languages --shadow --shadow-share --shadow-thresholds --max-wait-s
        --timeout-s --max-texts --max-body-bytes --body-timeout-s --cache-texts --drain-s
    """,
    "evaluate": """
        --log-level --checkpoint --data-path --split --batch-size BUNDLE --suite --json --html --max-texts --seed
        --backend --threshold --text-column --label-columns --label-cut --labels-in --label-format --label-none
        --delimiter --quoting --escape --partial-labels --language-column --languages --thresholds --output-dir
        --threads --bootstrap
    """,
    "verify": """
        --log-level BUNDLE --threads
    """,
    "migrate": """
        --log-level INPUT_PATH -o --output-dir --answers --old-threshold --match --flag-rate --others --changes
        --show-texts --bootstrap --seed --overwrite -m --model --backend --threads --text-column --delimiter --quoting
        --escape
    """,
    "check": """
        --log-level DATA_PATH --text-column --label-columns --label-cut --labels-in --label-format --label-none
        --delimiter --quoting --escape --partial-labels --language-column --languages --detect-language --also
        --backbone --max-length --json
    """,
    "train": """
        --log-level --data-path --text-column --label-columns --label-cut --labels-in --label-format --label-none
        --delimiter --quoting --escape --partial-labels --language-column --languages --detect-language
        --val-path --test-path --val-size --test-size
        --max-train-examples --extra-train-path --disguised --output-dir --overwrite --resume --dry-run --seed --track
        --bootstrap --backbone --revision --random-weights --max-length --fold-disguises --attention-dropout
        --freeze-embeddings --freeze-layers --epochs --batch-size --lr --head-lr --weight-decay --warmup
        --grad-accumulation --max-grad-norm --pos-weight --pos-weight-cap --negatives --balanced-sampler --precision
        --best-metric --patience --save-every --threads --calibration --objective
    """,
    "tune": """
        --log-level --preds --labels --label-columns --objective --out --bootstrap --seed
    """,
    "export": """
        --log-level RUN --to --formats --allow --name --about --licence --map --overwrite --overlap --parity-texts
        --data-path --threads
    """,
    "keys": """
        --log-level ACTION --keys --name
    """,
    "feedback": """
        --log-level ACTION --feedback-url -o --output --label-columns --csv-safe --overwrite
    """,
}
"""Verb -> its flags and positional words; not `--help`, `--config` and `--no-...`."""


def flags_of(verb: str) -> list[str]:
    (verbs,) = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    parser: Any = verbs.choices[verb]
    words = [word for action in parser._actions for word in action.option_strings or [action.dest.upper()]]
    return [word for word in words if word not in ("-h", "--help", "--config") and not word.startswith("--no-")]


def test_the_package_shows_these_names() -> None:
    assert moderation.__all__ == [
        "ArtifactError",
        "Classifier",
        "ConfigError",
        "DataError",
        "MissingExtraError",
        "ModerationError",
        "Run",
        "TextResult",
        "evaluate",
        "export_bundle",
        "train",
        "tune",
    ]
    for name in moderation.__all__:
        assert getattr(moderation, name).__doc__
        assert name in dir(moderation)
    with pytest.raises(AttributeError, match="no attribute 'moderate'"):
        _ = moderation.moderate


def test_the_door_shows_these_names() -> None:
    assert model_training.__all__ == [
        "PosWeightTrainer",
        "build_balanced_sampler_and_pos_weight",
        "compute_metrics",
        "df_to_hfds",
        "eval_with_thresholds",
        "freeze_for_speed",
        "load_english_only",
        "main",
        "save_logs_and_plots",
        "tune_thresholds",
    ]


def test_the_verbs_are_these() -> None:
    assert [*VERBS] == [*FLAGS]


@pytest.mark.parametrize("verb", FLAGS)
def test_the_flags_of_a_verb_are_these(verb: str) -> None:
    assert sorted(flags_of(verb)) == sorted(FLAGS[verb].split())
