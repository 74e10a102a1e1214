"""The exception tree: exit codes, the builtin bases, and that errors survive a trip between processes."""

import copy
import pickle

import pytest

from moderation.errors import ArtifactError, ConfigError, DataError, MissingExtraError, ModerationError


@pytest.mark.parametrize(
    ("error", "exit_code", "builtin"),
    [
        (ConfigError("x"), 2, ValueError),
        (MissingExtraError("--track wandb", "wandb"), 2, ImportError),
        (DataError("x"), 1, ValueError),
        (ArtifactError("x"), 1, ValueError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_error_has_its_exit_code_and_is_the_expected_builtin_exception(
    error: ModerationError, exit_code: int, builtin: type[Exception]
) -> None:
    assert isinstance(error, ModerationError)
    assert isinstance(error, builtin)
    assert error.exit_code == exit_code


def test_the_docstring_draws_the_actual_tree() -> None:
    import moderation.errors as module

    drawn = str(module.__doc__)
    for kind in (ConfigError, DataError, ArtifactError, MissingExtraError):
        (line,) = [line for line in drawn.splitlines() if f" {kind.__name__} " in line]
        assert f"exit {kind.exit_code}" in line


def test_a_missing_extra_names_the_feature_and_the_command_that_cures_it() -> None:
    message = str(MissingExtraError("--detect-language", "languages"))
    assert message.startswith("--detect-language needs")
    assert "pip install '.[languages]'" in message


@pytest.mark.parametrize("error", [DataError("two\nlines"), MissingExtraError("--track wandb", "wandb")], ids=repr)
def test_errors_survive_pickling_and_copying(error: ModerationError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.exit_code == error.exit_code
