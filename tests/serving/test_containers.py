"""The container's files agree with the settings and with each other, as far as can be told without building it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from moderation.commands.serve import STOP_S
from moderation.config import ServeConfig
from moderation.options import settings_of
from moderation.serving.options import LoadOptions
from moderation.serving.processes.supervisor import longest_stop_s

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SERVICE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["moderation"]


def test_every_variable_is_a_setting() -> None:
    settings = {f"MODERATION_{name.upper()}" for name in settings_of(ServeConfig)}
    named = set(re.findall(r"^\s*(?:ENV )?(MODERATION_\w+)=", DOCKERFILE, flags=re.MULTILINE))
    assert len(named) == 4
    assert named | SERVICE["environment"].keys() <= settings


def test_copied_files_exist_and_are_not_ignored() -> None:
    copied = {
        name for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, flags=re.MULTILINE) for name in line.split()
    }
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied == {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_installs_the_tested_packages_with_their_hashes() -> None:
    pins = dict(
        re.findall(r"^(\S+)==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    locked = (ROOT / "requirements-image.txt").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    found = [re.match(r"(\S+)==(\S+)", line) for line in locked if not line.startswith("#")]
    versions = {match[1]: match[2] for match in found if match}
    assert {"onnxruntime", "uvicorn", "tokenizers", "psycopg-binary", "redis"} <= versions.keys()
    assert all("--hash=sha256:" in line for line in locked if not line.startswith("#"))
    names = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    assert {name: names[name] for name in versions if name in names} == {
        name: version for name, version in versions.items() if name in names
    }


def test_paths_of_the_image_are_those_that_are_mounted() -> None:
    targets = [volume["target"] if isinstance(volume, dict) else volume.split(":")[1] for volume in SERVICE["volumes"]]
    assert targets == ["/data"]
    assert "VOLUME /data" in DOCKERFILE
    assert f"MODERATION_KEYS=/run/secrets/{SERVICE['secrets'][0]} " in DOCKERFILE


def test_requests_in_flight_are_answered_before_the_container_is_killed() -> None:
    """Also where a worker hangs, which the supervisor kills at last."""
    longest = longest_stop_s(LoadOptions().timeout_s + STOP_S, LoadOptions().drain_s or 0.0)
    assert float(SERVICE["stop_grace_period"].removesuffix("s")) > longest


def read_manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "deploy/kubernetes/moderation.yaml").read_text(encoding="utf-8")))


def test_kubernetes_accepts_the_manifests() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    manifests = read_manifests()
    assert [one["kind"] for one in manifests] == [
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
    ]
    for manifest in manifests:
        validate.validate(manifest, "1.32", strict=True)
    manifests[0]["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpGet"]["prt"] = "http"
    with pytest.raises(validate.ValidationError):
        validate.validate(manifests[0], "1.32", strict=True)


def test_the_pods_are_those_of_the_image_and_drain_in_time() -> None:
    deployment, service, scaler, budget = read_manifests()
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables.keys() <= {f"MODERATION_{name.upper()}" for name in settings_of(ServeConfig)}
    assert f"USER {pod['securityContext']['runAsUser']}" in DOCKERFILE
    assert f"EXPOSE {container['ports'][0]['containerPort']}" in DOCKERFILE
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    assert mounts == {"/run/secrets", "/tmp"}
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    longest = longest_stop_s(LoadOptions().timeout_s + STOP_S, float(variables["MODERATION_DRAIN_S"]))
    assert pod["terminationGracePeriodSeconds"] > longest
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"] and scaler["spec"]["minReplicas"] > budget["spec"]["minAvailable"]
