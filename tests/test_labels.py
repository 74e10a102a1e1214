"""Label order: what counts as labels, and artifacts that were made for others."""

import pytest

from moderation.errors import ArtifactError, ConfigError
from moderation.labels import JIGSAW_LABELS, as_labels, check_same_labels
from tests.attack_table import Attack
from tests.hostile_names import OBEYED, SHOWN, TOO_MUCH, obeyed_in


def test_labels_keep_their_order() -> None:
    assert as_labels(["b", "a"]) == ("b", "a")
    assert as_labels(JIGSAW_LABELS) == JIGSAW_LABELS


@pytest.mark.parametrize("names", [[], [""], ["toxic", ""], ["toxic", " "], ["toxic", None], "toxic"], ids=repr)
def test_no_names_empty_names_and_a_bare_string_are_refused(names: list[str] | str) -> None:
    with pytest.raises(ConfigError, match="expected a list of one or more names"):
        as_labels(names)


@pytest.mark.hostile("names of labels")
def test_an_unreadable_name_is_refused(attack: Attack) -> None:
    for name in (*OBEYED, *TOO_MUCH, "a\u00a0b", "\ue000", "\u0378"):
        with pytest.raises(ConfigError) as caught:
            as_labels(["toxic", name])
        assert not obeyed_in(str(caught.value))
        assert not name.strip() or name not in str(caught.value), "it may be a comment, where a header is missing"
    for name in SHOWN:
        assert as_labels(["toxic", name]) == ("toxic", name)
    attack.tried(len(OBEYED) + len(TOO_MUCH) + len(SHOWN) + 3)


def test_two_notations_of_a_name_count_as_the_same_name() -> None:
    with pytest.raises(ConfigError, match="caf\u00e9 named more than once"):
        as_labels(["caf\u00e9", "cafe\u0301"])
    assert as_labels(["Hate", "hate"]) == ("Hate", "hate"), "which people can tell apart"


def test_every_repeated_name_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Labels: a, c named more than once"):
        as_labels(["c", "a", "b", "a", "c"])


def test_equal_labels_are_accepted_as_a_list_or_a_tuple() -> None:
    check_same_labels(["a", "b"], ("a", "b"), "thresholds.json")


@pytest.mark.parametrize(
    ("found", "reason"),
    [(["b", "a"], "another order"), (["a"], "made for other labels"), (["a", "b", "b"], "made for other labels")],
)
def test_other_labels_and_another_order_are_distinguished(found: list[str], reason: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        check_same_labels(found, ("a", "b"), "runs/x/thresholds.json")
    message = str(caught.value)
    assert message.startswith("runs/x/thresholds.json: ")
    assert reason in message
    assert f"found:    {', '.join(found)}\n" in message
    assert "expected: a, b\n" in message
