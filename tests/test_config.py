"""Settings: each has a default and a help line, and all that is wrong with them comes in one message."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from moderation.cli import VERBS
from moderation.config import (
    Backend,
    CheckConfig,
    EvaluateConfig,
    ExportConfig,
    ExportFormat,
    KeysConfig,
    ScoreConfig,
    TrainConfig,
    TuneConfig,
)
from moderation.errors import ConfigError
from moderation.forms import FORMS
from moderation.inference.backends import backends
from moderation.options import Options, build, fit, flatten, kind_of, settings_of
from moderation.serving.options import LoadOptions, ServerOptions, ShadowOptions

CONFIGS = [verb.config_class for verb in VERBS.values()]
DATA = Path("train.csv")


@pytest.mark.parametrize("config_class", CONFIGS)
def test_every_setting_has_a_help_line_and_an_immutable_default(config_class: type[Any]) -> None:
    for one in settings_of(config_class).values():
        assert one.about["help"], one.name
        assert not one.about["help"].endswith("."), one.name
        hash(one.default)


@pytest.mark.parametrize("config_class", CONFIGS)
def test_settings_are_immutable(config_class: type[Any]) -> None:
    assert config_class.__dataclass_params__.frozen
    with pytest.raises(TypeError, match="positional"):
        config_class("train.csv")


def test_the_defaults_are_those_of_the_documented_command() -> None:
    config = build(TrainConfig, {"data_path": DATA})
    assert (config.fit.epochs, config.fit.batch_size, config.fit.lr, config.run.seed) == (3.0, 16, 2e-5, 42)
    assert config.model.backbone == "distilbert/distilbert-base-multilingual-cased"
    assert (config.data.val_size, config.data.test_size, config.text_column) == (0.1, 0.1, "comment_text")
    assert config.fit.precision == "auto"
    assert config.objective == TuneConfig(preds=DATA, labels=DATA).objective == "f1"


OUT_OF_RANGE: dict[str, list[object]] = {
    "calibration": ["isotonic", ""],
    "val_size": [0, 1, -0.1, float("nan")],
    "test_size": [0, 1, 0.9, 0.95],
    "epochs": [0, -1, float("nan"), float("inf")],
    "batch_size": [0, -1],
    "lr": [0, -1e-5, float("nan"), float("inf")],
    "head_lr": [0, -1, float("inf")],
    "weight_decay": [-0.1, float("nan"), float("inf")],
    "warmup": [-0.1, 1.1, float("nan")],
    "max_length": [7, 0],
    "attention_dropout": [-0.1, 1.0],
    "freeze_layers": [-1],
    "grad_accumulation": [0],
    "max_grad_norm": [-1, float("inf")],
    "pos_weight_cap": [0.5, float("inf")],
    "patience": [-1],
    "save_every": [0],
    "max_train_examples": [0],
    "bootstrap": [-1],
    "threads": [0],
    "seed": [-1, 2**32],
    "precision": ["fp8"],
    "pos_weight": ["none"],
    "best_metric": ["f1"],
    "track": [("tensorboard", "comet")],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OUT_OF_RANGE.items() for value in values]
)
def test_a_value_out_of_range_is_named_by_its_flag(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"--{name.replace('_', '-')} is .*expected"):
        build(TrainConfig, {"data_path": DATA, name: value})


def all_options(base: type[Options] = Options) -> Iterator[type[Options]]:
    for one in base.__subclasses__():
        yield one
        yield from all_options(one)


NUMBER, TEXT = np.int64(1), "val"
TAKEN: dict[Any, tuple[object, ...]] = {
    int: (1, NUMBER),
    float: (1, NUMBER, 0.5, np.float32(0.5), Fraction(1, 2)),
    bool: (True,),
    str: (TEXT,),
    Path: (TEXT, DATA),
}
ODD = (
    None,
    True,
    1,
    NUMBER,
    0.5,
    1j,
    10**5000,
    TEXT,
    b"x",
    DATA,
    Path("a\0b"),
    {},
    {"x"},
    object(),
    int,
    ((),),
    [[TEXT]],
)


@pytest.mark.parametrize("options", list(all_options()), ids=lambda options: options.__name__)
def test_a_value_of_a_wrong_type_is_refused_and_any_other_becomes_what_is_declared(options: type[Options]) -> None:
    for one in (one for one in settings_of(options).values() if not one.where):
        kind, _, many = kind_of(one.hint)
        taken = [[*TAKEN[kind]], (*TAKEN[kind],), []] if many else [*TAKEN[kind]]
        for value in taken:
            held = fit(value, one.hint)
            assert isinstance(held, tuple) if many else type(held) is kind or isinstance(held, kind)
            assert f"{one.flag}: expected" not in complaints_of(options, {one.name: value})
        ids = {id(value) for value in taken} | ({id(None)} if one.default is None or "None" in str(one.hint) else set())
        for value in [*ODD, *(() if many else ([TEXT], (TEXT,)))]:
            if id(value) not in ids:
                said = complaints_of(options, {one.name: value})
                assert f"{one.flag}: expected" in said and ", found " in said, (one.name, value)
                assert len(said) < 2000


@pytest.mark.parametrize("config_class", CONFIGS)
def test_settings_that_are_all_of_a_wrong_type_are_all_named(config_class: type[Any]) -> None:
    names = settings_of(config_class)
    for odd in (object(), 1j, 10**5000, {}):
        assert complaints_of(config_class, dict.fromkeys(names, odd)).count(": expected ") == len(names)


def complaints_of(options: type[Options], values: dict[str, object]) -> str:
    try:
        build(options, values)
    except ConfigError as error:
        return str(error)
    return ""


def test_a_part_of_another_class_is_refused() -> None:
    for part in (None, {"max_texts": 1}, ShadowOptions(), LoadOptions):
        with pytest.raises(ConfigError, match="load: expected LoadOptions, found "):
            ServerOptions(load=part)  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"--cors: expected a list, found str\n  --max-texts: expected int, found bool"
    ):
        build(ServerOptions, {"max_texts": True, "cors": "https://a.example", "drain_s": None})


def test_values_at_the_limits_are_accepted() -> None:
    bounds: dict[str, Any] = {"warmup": 0, "weight_decay": 0, "max_length": 8, "max_grad_norm": 0, "pos_weight_cap": 1}
    bounds |= {"val_size": 0.5, "test_size": 0.49, "bootstrap": 0, "seed": 2**32 - 1, "track": ("mlflow", "wandb")}
    for name, value in bounds.items():
        assert flatten(build(TrainConfig, {"data_path": DATA} | bounds))[name] == value


def test_all_problems_come_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        build(TrainConfig, {"epochs": 0, "batch_size": -2, "precision": "fp8", "resume": True, "overwrite": True})
    lines = str(caught.value).splitlines()
    for part in (
        "--data-path is missing",
        "--epochs is 0, expected more than 0",
        "--batch-size is -2, expected 1 or more",
        "--precision is fp8, expected auto | fp32 | bf16 | fp16",
        "--resume needs --output-dir",
    ):
        assert sum(part in line for line in lines) == 1, part
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("config_class", "settings", "complaints"),
    [
        (TuneConfig, {"bootstrap": -1, "seed": -1}, ["--preds is", "--labels is", "--bootstrap is -1", "--seed is -1"]),
        (
            EvaluateConfig,
            {"batch_size": 0, "threads": 0, "bootstrap": -1, "split": "train"},
            ["--checkpoint is missing", "--batch-size is 0", "--threads is 0", "--bootstrap is -1", "--split is train"],
        ),
        (CheckConfig, {"max_length": 7}, ["--max-length is 7", "--max-length: only with --backbone"]),
    ],
)
def test_the_other_verbs_check_theirs(config_class: type[Any], settings: dict[str, Any], complaints: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(config_class, settings)
    for complaint in complaints:
        assert complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1 + len(complaints)


@pytest.mark.parametrize(
    ("config_class", "settings", "complaint"),
    [
        (KeysConfig, {"action": "list", "name": "forum"}, "--name: has no effect on `list`"),
        (CheckConfig, {"data_path": DATA, "max_length": 64}, "--max-length: only with --backbone"),
        (ScoreConfig, {"input_path": Path("-"), "text_column": "t"}, "--text-column: no effect on standard input"),
        (ExportConfig, {"run": DATA, "to": DATA, "allow": ("openvino",)}, "--allow openvino: not among --formats"),
        (
            EvaluateConfig,
            {"checkpoint": DATA, "text_column": "t", "label_cut": 0.5},
            "--text-column, --label-cut: no e",
        ),
        (EvaluateConfig, {"checkpoint": DATA, "max_texts": 5}, "--max-texts: only for a bundle"),
        (EvaluateConfig, {"suite": ("a=b",), "split": "val"}, "--split: not for a bundle"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(
    config_class: type[Any], settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build(config_class, settings)


def test_idle_settings_of_a_training_are_reported_and_not_refused() -> None:
    """An earlier run may have been made with them, and shall still be evaluated."""
    given = {"data_path": DATA, "val_path": DATA, "val_size": 0.2, "test_size": 0.3}
    idle = build(TrainConfig, given | {"pos_weight": "off", "pos_weight_cap": 9.0})
    assert idle.idle_settings == [
        "--val-size: no effect with --val-path",
        "--pos-weight-cap: no effect with --pos-weight off",
    ]
    assert not build(TrainConfig, {"data_path": DATA, "test_size": 0.3, "pos_weight_cap": 9.0}).idle_settings


def test_flags_offer_every_form_and_every_backend_in_their_order() -> None:
    assert get_args(ExportFormat) == tuple(FORMS)
    assert get_args(Backend) == ("auto", *backends())
