"""Flags and TOML keys: one per setting, defaults < TOML < flags, and every fault named."""

import argparse
import contextlib
import dataclasses
import io
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation import cli
from moderation.cli import VERBS
from moderation.config import EvaluateConfig, ServeConfig, TrainConfig, TuneConfig, setting
from moderation.errors import ConfigError
from moderation.flags import add_flags, from_plain, merge, to_plain
from moderation.options import build, settings_of

CONFIGS = [verb.config_class for verb in VERBS.values()]


def parse(config_class: type[Any], *words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser, config_class)
    return vars(parser.parse_args(words))


def merged(config_class: type[Any], *words: str) -> Any:
    return merge(config_class, parse(config_class, *words))


def refused(config_class: type[Any], *words: str) -> str:
    """The usage error that the parser prints."""
    with contextlib.redirect_stderr(io.StringIO()) as err, pytest.raises(SystemExit) as caught:
        parse(config_class, *words)
    assert caught.value.code == 2
    return err.getvalue()


@pytest.mark.parametrize("config_class", CONFIGS)
def test_every_setting_has_one_flag_with_hyphens_and_its_help(config_class: type[Any]) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, config_class)
    actions = {action.dest: action for action in parser._actions}
    for one in settings_of(config_class).values():
        assert one.flag in actions[one.name].option_strings
        assert str(actions[one.name].help).startswith(one.about["help"].replace("%", "%%"))
        if one.default not in (None, (), False):
            shown = ",".join(one.default) if isinstance(one.default, tuple) else str(one.default)
            shown = "yes" if one.default is True else shown
            assert shown in str(actions[one.name].help).replace("%%", "%")
    assert not [word for action in parser._actions for word in action.option_strings if "_" in word]


def test_percent_signs_in_help_and_default_are_shown_as_they_are() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Odd:
        share: str = setting("5%", "leave out 10% (see %(prog)s)")

    parser = argparse.ArgumentParser()
    add_flags(parser, Odd)
    assert "leave out 10% (see %(prog)s) (default: 5%)" in " ".join(parser.format_help().split())


def test_an_optional_positional_argument_may_be_left_out(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Visit:
        place: Path | None = setting(None, "where")
        days: tuple[str, ...] = setting((), "when")

    parser = argparse.ArgumentParser(prog="visit")
    add_flags(parser, Visit, positional="place")
    assert merge(Visit, vars(parser.parse_args([]))) == Visit()
    assert merge(Visit, vars(parser.parse_args(["home"]))) == Visit(place=Path("home"))
    (tmp_path / "visit.toml").write_text('place = "river"', encoding="utf-8")
    words = ["--config", str(tmp_path / "visit.toml")]
    assert merge(Visit, vars(parser.parse_args(words))) == Visit(place=Path("river"))
    assert merge(Visit, vars(parser.parse_args(["home", *words]))) == Visit(place=Path("home"))
    assert merge(Visit, vars(parser.parse_args(["--days", "mo,tu", "--days", "we"]))).days == ("mo", "tu", "we")


def test_a_positional_argument_may_have_choices() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Ledger:
        action: Literal["add", "list"] = setting(None, "what to do in 100% of the cases")
        name: str | None = setting(None, "whose")

    parser = argparse.ArgumentParser(prog="ledger")
    add_flags(parser, Ledger, positional="action")
    assert merge(Ledger, vars(parser.parse_args(["add", "--name", "ann"]))) == Ledger(action="add", name="ann")
    shown = parser.format_help()
    assert "{add,list}" in shown
    assert "what to do in 100% of the cases" in shown
    for words, complaint in ((["burn"], "invalid choice: 'burn'"), ([], "required: action")):
        with contextlib.redirect_stderr(io.StringIO()) as err, pytest.raises(SystemExit):
            parser.parse_args(words)
        assert complaint in err.getvalue()


def test_without_flags_the_defaults_apply() -> None:
    assert merged(TrainConfig, "--data-path", "t.csv") == build(TrainConfig, {"data_path": Path("t.csv")})


def test_flags_arrive_with_their_types() -> None:
    words = "--data-path t.csv --epochs 2 --batch-size 8 --lr 1e-4 --label-columns a b --track mlflow --precision bf16"
    config = merged(TrainConfig, *words.split(), "--threads", "1", "--balanced-sampler")
    assert config.data.data_path == Path("t.csv")
    assert (config.fit.epochs, type(config.fit.epochs)) == (2.0, float)
    assert (config.fit.batch_size, config.fit.lr, config.threads) == (8, 1e-4, 1)
    assert (config.data.table.label_columns, config.run.track) == (("a", "b"), ("mlflow",))
    assert (config.fit.precision, config.fit.balanced_sampler) == ("bf16", True)


@pytest.mark.parametrize("words", [["a", "b"], ["a,b"], ["a,", "b"], [",a,,b,"]], ids=" ".join)
def test_items_of_a_list_are_separated_by_spaces_or_commas(words: list[str]) -> None:
    assert merged(TrainConfig, "--data-path", "t", "--label-columns", *words).data.table.label_columns == ("a", "b")


def test_commas_separate_a_list_of_choices_too() -> None:
    assert merged(TrainConfig, "--data-path", "t", "--track", "mlflow,wandb").run.track == ("mlflow", "wandb")
    with pytest.raises(ConfigError, match=r"--track is .*comet.*expected tensorboard \| mlflow \| wandb"):
        merged(TrainConfig, "--data-path", "t", "--track", "mlflow,comet")


def test_a_switch_can_be_set_and_unset(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text("data_path = 't'\nbalanced_sampler = true\n", encoding="utf-8")
    assert merged(TrainConfig, "--config", str(toml)).fit.balanced_sampler
    assert not merged(TrainConfig, "--config", str(toml), "--no-balanced-sampler").fit.balanced_sampler
    assert merged(TrainConfig, "--data-path", "t", "--no-balanced-sampler", "--balanced-sampler").fit.balanced_sampler


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--epoch", "3"], "unrecognized arguments: --epoch"),
        (["--batch_size", "3"], "unrecognized arguments: --batch_size"),
        (["--batch-size", "3.5"], "--batch-size: invalid int value: '3.5'"),
        (["--lr", "fast"], "--lr: invalid float value: 'fast'"),
        (["--precision", "fp8"], "--precision: invalid choice: 'fp8'"),
        (["--label-columns"], "--label-columns: expected at least one argument"),
        (["--seed"], "--seed: expected one argument"),
    ],
)
def test_abbreviations_and_other_types_are_usage_errors(words: list[str], complaint: str) -> None:
    assert complaint in refused(TrainConfig, *words)


def test_the_file_overrides_defaults_and_flags_override_the_file(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text(
        "data-path = 'file.csv'\nbatch-size = 8\nlr = 1\nlabel-columns = ['a', 'b']\ntrack = ['wandb']\nseed = 7\n",
        encoding="utf-8",
    )
    config = merged(TrainConfig, "--config", str(toml), "--seed", "9")
    assert config.data.data_path == Path("file.csv")
    assert (config.fit.batch_size, config.run.seed, config.fit.epochs) == (8, 9, 3.0)
    assert (config.fit.lr, type(config.fit.lr)) == (1.0, float)
    assert (config.data.table.label_columns, config.run.track) == (("a", "b"), ("wandb",))


def test_underscores_and_hyphens_name_the_same_key_but_not_both_at_once(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text("data_path = 't'\nbatch_size = 8\n", encoding="utf-8")
    assert merged(TrainConfig, "--config", str(toml)).fit.batch_size == 8
    toml.write_text("batch_size = 8\nbatch-size = 9\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is given twice"):
        merged(TrainConfig, "--config", str(toml))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("epochs = \n", "not valid TOML.*line 1"),
        ("epochs = 1\nepochs = 2\n", "not valid TOML"),
        ("learning_rate = 1\n", "unknown settings: learning_rate. Known: .*lr"),
        ("[training]\nlr = 1\n", "unknown settings: training"),
        ("config = 'b.toml'\n", "unknown settings: config"),
        ("batch_size = 8.0\n", "batch_size: expected int, found float"),
        ("batch_size = true\n", "batch_size: expected int, found bool"),
        ("epochs = true\n", "epochs: expected float, found bool"),
        ("lr = '1e-5'\n", "lr: expected float, found str"),
        ("overwrite = 1\n", "overwrite: expected bool, found int"),
        ("data_path = 3\n", "data_path: expected Path, found int"),
        ("label_columns = 'toxic'\n", "label_columns: expected a list, found str"),
        ("label_columns = ['a', 1]\n", "label_columns: expected str, found int"),
        ("seed = 2024-01-01\n", "seed: expected int, found date"),
    ],
)
def test_a_wrong_file_is_named_with_its_problem(tmp_path: Path, content: str, complaint: str) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint) as caught:
        merged(TrainConfig, "--data-path", "t", "--config", str(toml))
    assert f"--config {toml}: " in str(caught.value)


def test_all_problems_of_a_file_come_in_one_message(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text("lr = 'x'\nbatch_size = 'y'\nspeed = 1\ncolour = 2\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        merged(TrainConfig, "--config", str(toml))
    for part in ("unknown settings: colour, speed", "lr: expected float", "batch_size: expected int"):
        assert part in str(caught.value)


def test_values_of_a_file_are_checked_like_those_of_flags(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text("precision = 'fp8'\ntrack = ['comet']\nepochs = -1\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        merged(TrainConfig, "--data-path", "t", "--config", str(toml))
    for part in ("--precision is fp8", "comet", "--epochs is -1"):
        assert part in str(caught.value)
    toml.write_text("split = 'train'\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="--split is train"):
        merged(EvaluateConfig, "--checkpoint", "c.pt", "--config", str(toml))


def test_a_missing_file_a_foreign_file_and_a_folder_give_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config .*gone\.toml: no such file"):
        merged(TrainConfig, "--config", str(tmp_path / "gone.toml"))
    (tmp_path / "latin.toml").write_bytes(b"backbone = '\xe9'\n")
    for path in (tmp_path / "latin.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read as UTF-8 text"):
            merged(TrainConfig, "--config", str(path))


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
paths = names.filter(lambda name: "\0" not in name).map(Path)
train_settings = st.fixed_dictionaries(
    {"data_path": paths},
    optional={
        "label_columns": st.none() | st.lists(names).map(tuple),
        "output_dir": st.none() | paths,
        "track": st.lists(st.sampled_from(["tensorboard", "mlflow", "wandb"])).map(tuple),
        "label_cut": st.none() | st.floats(0, 1, exclude_min=True),
        "epochs": st.floats(0.01, 1e6),
        "lr": st.floats(1e-12, 1),
        "seed": st.integers(0, 2**32 - 1),
        "threads": st.none() | st.integers(1, 64),
        "overwrite": st.booleans(),
        "backbone": names,
        "precision": st.sampled_from(["auto", "fp32", "bf16", "fp16"]),
    },
)


@settings(max_examples=150, deadline=None)
@given(train_settings)
def test_settings_come_back_from_json_as_they_were(values: dict[str, Any]) -> None:
    config = build(TrainConfig, values)
    plain = json.loads(json.dumps(to_plain(config)))
    assert plain.keys() == {*settings_of(TrainConfig)}
    assert from_plain(TrainConfig, plain, "run.json") == config


@settings(max_examples=50, deadline=None)
@given(st.fixed_dictionaries({}, optional={"lr": st.floats(1e-9, 1), "seed": st.integers(0, 99), "backbone": names}))
def test_a_flag_gives_a_value_of_the_settings_type(values: dict[str, Any]) -> None:
    words = [f"--{name.replace('_', '-')}={value!s}" for name, value in values.items()]
    assert merged(TrainConfig, "--data-path=t", *words) == build(TrainConfig, {"data_path": Path("t")} | values)


def test_damaged_settings_of_a_run_are_refused_by_name() -> None:
    plain = to_plain(TuneConfig(preds=Path("p"), labels=Path("l")))
    for change, complaint in (
        ({"seed": None}, "seed: expected int, found None"),
        ({"preds": 1}, "preds: expected Path"),
        ({"other": 1}, "unknown settings: other"),
    ):
        with pytest.raises(ConfigError, match=complaint) as caught:
            from_plain(TuneConfig, plain | change, "runs/x/run.json")
        assert str(caught.value).startswith("runs/x/run.json: ")


def test_the_environment_overrides_the_file_and_flags_override_it(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('model = "a"\nport = 1\nhost = "::1"\n')
    environment = {
        "MODERATION_CONFIG": str(file),
        "MODERATION_PORT": "2",
        "MODERATION_HOST": "127.0.0.2",
        "MODERATION_AUTH": "no",
        "MODERATION_CORS": "https://a.example, https://b.example",
        "MODERATION_SHARED": "somewhere",
    }
    settings = merge(ServeConfig, {"host": "127.0.0.3"}, environment)
    assert (settings.model, settings.port, settings.host, settings.auth) == (Path("a"), 2, "127.0.0.3", False)
    assert settings.server.access.cors == ("https://a.example", "https://b.example")


def test_variables_of_the_wrong_type_are_named_together_without_their_value() -> None:
    with pytest.raises(ConfigError) as refused:
        merge(ServeConfig, {"model": Path("a")}, {"MODERATION_PORT": "many", "MODERATION_AUTH": "maybe"})
    assert "MODERATION_PORT: expected int" in str(refused.value)
    assert "MODERATION_AUTH: expected bool" in str(refused.value)
    assert "many" not in str(refused.value)


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    empty = dict.fromkeys(("MODERATION_KEYS", "MODERATION_THREADS", "MODERATION_FEEDBACK_URL"), "")
    settings = merge(ServeConfig, {"model": tmp_path}, empty)
    assert (settings.keys, settings.server.threads, settings.server.feedback_url) == (None, None, "")


@pytest.mark.hostile("bombs: settings")
@pytest.mark.parametrize(
    "content",
    [
        "epochs = " + "9" * 5000,
        "epochs = 0x" + "f" * 5000,
        "lr = " + "9" * 4000,
        "seed = -" + "9" * 4000,
        "batch_size = 0x" + "f" * 5000,
        "label_columns = " + "[" * 5000 + "]" * 5000,
        "label_columns = " + "[" * 50 + "]" * 50,
        "a = " + "{a = " * 3000 + "1" + "}" * 3000,
        "a" + ".a" * 5000 + " = 1",
        "a" * 100_000 + " = 1",
        "\n".join(f"k{number} = 1" for number in range(5000)),
        'data_path = "' + "x" * 100_000 + '"',
        'data_path = "a\\u0000b"',
        "#" * (1 << 21),
    ],
    ids=range(14),
)
def test_endless_settings_give_a_message_of_a_few_lines(content: str, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        merge(TrainConfig, {"config": tmp_path / "t.toml"})
    assert str(tmp_path / "t.toml") in str(caught.value)
    assert len(str(caught.value)) < 2500


@pytest.mark.hostile("bombs: settings")
def test_a_device_is_not_a_file_of_settings_and_numbers_have_limits() -> None:
    with pytest.raises(ConfigError, match="more than 1 MiB"):
        merge(TrainConfig, {"config": Path("/dev/zero")})
    for value in ("9" * 5000, "9" * 4000, "-" + "9" * 4000):
        with pytest.raises(ConfigError, match="MODERATION_MAX_TEXTS: expected int"):
            merge(ServeConfig, {}, {"MODERATION_MAX_TEXTS": value})
        parser = argparse.ArgumentParser(exit_on_error=False)
        add_flags(parser, TrainConfig)
        with pytest.raises(argparse.ArgumentError, match="invalid int value"):
            parser.parse_args([f"--seed={value}"])


def test_a_second_text_is_not_lost(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["score", "--text", "one", "--text", "two"])
    assert "--text is given more than once" in capsys.readouterr().err
