"""Labels in the words of two other APIs: by name, by a mapping, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.categories import (
    CATEGORIES,
    PERSPECTIVE_NAMES,
    check_mapping,
    find_attributes,
    find_counterparts,
    read_mapping,
)
from moderation.errors import ConfigError
from moderation.labels import JIGSAW_LABELS


@pytest.mark.parametrize(
    ("label", "category"),
    [
        ("harassment", "harassment"),
        ("Hate", "hate"),
        ("SEXUAL", "sexual"),
        ("self_harm", "self-harm"),
        ("Self Harm", "self-harm"),
        ("selfHarm", "self-harm"),
        ("self-harm/intent", "self-harm/intent"),
        ("self_harm_instructions", "self-harm/instructions"),
        ("violence graphic", "violence/graphic"),
        ("TOXICITY", "harassment"),
        ("toxicity", "harassment"),
        ("severe-toxicity", "harassment"),
        ("identity_attack", "hate"),
        ("Identity Hate", "hate"),
        ("sexual_explicit", "sexual"),
        ("Threat", "violence"),
    ],
)
def test_a_name_that_is_known_maps_by_itself(label: str, category: str) -> None:
    found = find_counterparts(["off topic", label])
    assert found.categories[category] == (label,)
    assert found.without_category == ("off topic",)


@pytest.mark.parametrize(
    ("label", "attribute"),
    [
        ("TOXICITY", "TOXICITY"),
        ("toxicity", "TOXICITY"),
        ("Severe Toxicity", "SEVERE_TOXICITY"),
        ("identity-attack", "IDENTITY_ATTACK"),
        ("profanity", "PROFANITY"),
        ("obscene", "PROFANITY"),
        ("sexual_explicit", "SEXUALLY_EXPLICIT"),
        ("flirtation", "FLIRTATION"),
        ("personal_story", "PERSONAL_STORY"),
        ("off topic!", "OFF_TOPIC_"),
    ],
)
def test_a_name_that_perspective_knows_is_that_attribute(label: str, attribute: str) -> None:
    found = find_attributes([label])
    assert found[attribute] == label
    assert (f"{attribute}_EXPERIMENTAL" in found) == (attribute in PERSPECTIVE_NAMES)


def test_two_labels_for_one_attribute_leave_it_to_its_own_name() -> None:
    found = find_attributes(["toxic", "toxicity"])
    assert (found["TOXICITY"], found["TOXIC"]) == ("toxicity", "toxic")


def test_the_included_models_labels_map_to_known_names() -> None:
    found = find_counterparts(JIGSAW_LABELS)
    assert found.categories["harassment"] == ("toxic", "severe_toxic", "insult")
    assert found.supported("hate/threatening") == ("identity_hate", "threat")
    assert found.without_category == ("obscene",)
    assert not find_counterparts(["threat"]).supported("hate/threatening")


def test_a_mapping_applies_to_the_labels_that_it_names() -> None:
    kept = read_mapping(["offensive=Harassment", "offensive=toxicity", "gore=violence/graphic"], ["offensive", "gore"])
    assert kept == {"offensive": ("harassment", "TOXICITY"), "gore": ("violence/graphic",)}
    labels = ["offensive", "gore", "toxic"]
    found = find_counterparts(labels, kept)
    assert (found.categories["harassment"], found.attributes["TOXICITY"]) == (("offensive", "toxic"), "offensive")
    assert found.attributes["TOXIC"] == "toxic"
    moved = find_counterparts(labels, kept, ["toxic=TOXICITY", "offensive=hate"])
    assert moved.attributes["TOXICITY"] == "toxic"
    assert (moved.categories["harassment"], moved.categories["hate"]) == (("toxic",), ("offensive",))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["offensive"], "expected LABEL=NAME"),
        (["rude=harassment"], "no such label; it has offensive, a=b"),
        (["offensive=harrasment"], "neither an OpenAI category (harassment, "),
        (["offensive="], "neither an OpenAI category"),
        (["=harassment"], "no such label"),
        (["offensive=TOXICITY", "a=b=TOXICITY"], "mapped from offensive and a=b"),
    ],
)
def test_an_impossible_mapping_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_mapping(words, ["offensive", "a=b"])
    assert message in str(refused.value)


def test_all_problems_come_at_once_and_a_label_may_hold_an_equals_sign() -> None:
    with pytest.raises(ConfigError) as refused:
        read_mapping(["x=harassment", "y=z"], ["offensive"])
    assert str(refused.value).count("\n") == 2
    assert read_mapping(["a=b=hate"], ["a=b"]) == {"a=b": ("hate",)}


@given(st.lists(st.text(min_size=1, max_size=12) | st.sampled_from(JIGSAW_LABELS), unique=True, min_size=1))
def test_whatever_labels_are_called_no_name_stands_for_two_things(labels: list[str]) -> None:
    found = find_counterparts(labels)
    assert set(found.attributes.values()) <= set(labels)
    used = {label for some in found.categories.values() for label in some}
    assert used | set(found.without_category) == set(labels)
    assert not used & set(found.without_category)
    assert found.categories.keys() == CATEGORIES.keys()
    assert check_mapping({label: ["hate"] for label in labels}, labels) == dict.fromkeys(labels, ("hate",))
