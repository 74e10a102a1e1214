"""The container's files agree with the settings and with each other, as far as can be told without building it."""

import dataclasses
import re
from pathlib import Path

import yaml

from moderation.config import ServeConfig

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SERVICE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["moderation"]


def test_every_variable_is_a_setting() -> None:
    settings = {f"MODERATION_{field.name.upper()}" for field in dataclasses.fields(ServeConfig)}
    named = set(re.findall(r"^\s*(?:ENV )?(MODERATION_\w+)=", DOCKERFILE, flags=re.MULTILINE))
    assert len(named) == 4
    assert named | SERVICE["environment"].keys() <= settings


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    copied = {
        name for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, flags=re.MULTILINE) for name in line.split()
    }
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied == {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


def test_paths_of_the_image_are_those_that_are_mounted() -> None:
    targets = [volume["target"] if isinstance(volume, dict) else volume.split(":")[1] for volume in SERVICE["volumes"]]
    assert targets == ["/data"]
    assert "VOLUME /data" in DOCKERFILE
    assert f"MODERATION_KEYS=/run/secrets/{SERVICE['secrets'][0]} " in DOCKERFILE


def test_requests_in_flight_are_answered_before_the_container_is_killed() -> None:
    longest = ServeConfig().timeout_s + 5 + ServeConfig().drain_s
    assert float(SERVICE["stop_grace_period"].removesuffix("s")) > longest
