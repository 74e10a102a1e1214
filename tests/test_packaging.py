"""The wheel and the sdist: what is in them, and that a stranger can install and use them away from the repository."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import moderation

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
SHIPPED = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "moderation").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
} | {"model_training.py"}
OUTSIDE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
BUILD = "import sys; from setuptools import build_meta; print(build_meta.{what}(sys.argv[1]))"


def built(what: str, source: Path, to: Path) -> Path:
    """A distribution, as a build frontend has setuptools make it, without an environment of its own."""
    command = [sys.executable, "-c", BUILD.format(what=what), to]
    done = subprocess.run(command, cwd=source, env=OUTSIDE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return to / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone holds and a build may pick up; builds leave files behind, so they get a copy."""
    folder = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("moderation", "tests", "benchmarks", "examples", "configs", "deploy", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("build_wheel", source, tmp_path_factory.mktemp("wheel"))


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    names = content(wheel).keys()
    info = f"content_moderation-{VERSION}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == SHIPPED
    assert {f"{info}licenses/LICENSE", f"{info}licenses/NOTICE"} <= names
    metadata = content(wheel)[f"{info}METADATA"].decode()
    assert "Author: The content-moderation authors" in metadata
    assert "License-Expression: Apache-2.0" in metadata


def test_version_is_that_of_the_installed_package() -> None:
    assert moderation.__version__ in (VERSION, "unknown")
    assert "__version__" in dir(moderation)


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    sdist = built("build_sdist", source, tmp_path)
    with tarfile.open(sdist) as archive:
        top = {name.split("/")[1] for name in archive.getnames() if "/" in name}
        archive.extractall(tmp_path, filter="data")
    assert not top & {"tests", "benchmarks", "docs"}
    rebuilt = built("build_wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path)
    assert content(rebuilt) == content(wheel)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel; it comes from the package index."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    words = ["--quiet", "--constraint", ROOT / "constraints.txt", f"{wheel}[onnx,serve,tables]"]
    subprocess.run([programs / "python", "-m", "pip", "install", *words], check=True, env=OUTSIDE)
    return programs


@contextlib.contextmanager
def serving(programs: Path, folder: Path) -> Iterator[str]:
    command = [programs / "moderation", "serve", "--port", "0", "--drain-s", "0"]
    with subprocess.Popen(command, cwd=folder, env=OUTSIDE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().partition(" at ")[2].partition(" ")[0]
            end = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < end:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{url}readyz", timeout=5).close()
                    break
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wheel_answers_in_an_environment_of_its_own(installed: Path, tmp_path: Path) -> None:
    def run(*words: str | Path) -> str:
        done = subprocess.run(words, cwd=tmp_path, env=OUTSIDE, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    about = run(installed / "python", "-c", "import moderation; print(moderation.__version__, moderation.__file__)")
    version, file = about.split(" ", 1)
    assert version == VERSION and not Path(file.strip()).is_relative_to(ROOT)
    assert run(installed / "moderation", "--version").strip() == f"content-moderation {VERSION}"
    (line,) = run(installed / "moderation", "score", "--text", "you are an idiot").splitlines()
    assert "insult" in json.loads(line)["flagged"]
    (tmp_path / "in.csv").write_text("comment_text\nyou are an idiot\ngood morning\n", encoding="utf-8")
    run(installed / "moderation", "score", "in.csv", "-o", "out.jsonl")
    rows = [json.loads(row) for row in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [bool(row["flagged"]) for row in rows] == [True, False]
    with serving(installed, tmp_path) as url:
        body = json.dumps({"texts": ["you are an idiot"]}).encode()
        request = urllib.request.Request(f"{url}v1/predict", body, {"Content-Type": "application/json"})
        answer = json.load(urllib.request.urlopen(request, timeout=120))
        assert answer["results"][0]["flagged"]
        assert b"<html" in urllib.request.urlopen(url, timeout=60).read()[:2000]
