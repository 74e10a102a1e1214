"""Extras: each module belongs to one, each verb names what it lacks, and the server runs without tables and torch."""

import ast
import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from moderation.cli import VERBS
from moderation.errors import MissingExtraError
from moderation.extras import BASE, EXTRAS, extra_of, missing_extra

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = [*(ROOT / "moderation").rglob("*.py"), ROOT / "model_training.py"]
ALL = tuple(module for modules in EXTRAS.values() for module in modules)
TABLES_AND_TRAINING = ("pandas", "scipy", "sklearn", "pyarrow", "torch", "transformers", "datasets", "matplotlib")

HIDE = """
import sys
from importlib.machinery import PathFinder
HIDDEN = set({hidden!r})
class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in HIDDEN else super().find_spec(name, path, target)
sys.meta_path[:] = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
"""


def without(folder: Path, *hidden: str) -> Mapping[str, str]:
    """The environment of a process for which these modules are not installed."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(HIDE.format(hidden=hidden), encoding="utf-8")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


FORKS = """
import json, os, sys, traceback
import sitecustomize
from moderation import cli
found = set(json.loads(sys.argv[1])) & sys.modules.keys()
assert not found, f"no verb of its own, and imports {found}"
for line in sys.stdin:
    hidden, words, folder = json.loads(line)
    if not (pid := os.fork()):
        sitecustomize.HIDDEN.update(hidden)
        os.chdir(folder)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
        code = 1
        try:
            code = cli.main(words)
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Verbs:
    """Runs verbs without some packages, each in a fork of one process that has imported what all verbs share."""

    def __init__(self, folder: Path) -> None:
        environment = {**without(folder / "hook"), "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKS, json.dumps(ALL)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, hidden: Iterable[str], words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
        """Run a verb in a folder as if these modules were not installed."""
        assert self.process.stdin and self.process.stdout
        print(json.dumps([list(hidden), words.split(), str(folder)]), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        out, err = ((folder / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess(words, code, out, err)


@pytest.fixture(scope="module")
def verbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verbs]:
    if not hasattr(os, "fork"):
        pytest.skip("forks are a POSIX feature")
    it = Verbs(tmp_path_factory.mktemp("verbs"))
    with it.process:
        yield it


def run(environment: Mapping[str, str], *words: str | Path, **more: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, **more)


def imported_packages() -> Iterator[tuple[str, str]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            yield from ((path.name, name.split(".")[0]) for name in names)


def test_every_module_that_is_imported_belongs_to_an_extra_or_to_every_installation() -> None:
    ours = {"", "moderation", "model_training", *sys.stdlib_module_names}
    elsewhere = {"model.py", "handler.py"}  # these run in servers of other makers
    nowhere = {
        (file, package)
        for file, package in imported_packages()
        if package not in ours and file not in elsewhere and package not in BASE and extra_of(package) is None
    }
    assert not nowhere


def test_no_module_belongs_to_two_extras() -> None:
    assert len(set(ALL) | set(BASE)) == len(ALL) + len(BASE)


def direct(extra: str) -> list[Requirement]:
    return [Requirement(line) for line in PROJECT["optional-dependencies"][extra] if line]


def brought_by(requirements: list[Requirement]) -> set[str]:
    """Names of the distributions that these bring, and what these need in turn."""
    found: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == "content-moderation":
            waiting += [inner for extra in requirement.extras for inner in direct(extra)]
        elif name not in found:
            found.add(name)
            lines = importlib.metadata.requires(name) or []
            inner = [Requirement(line) for line in lines]
            waiting += [one for one in inner if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_installs_the_modules_that_are_listed_as_its_own(extra: str) -> None:
    try:
        brought = brought_by(direct(extra))
    except importlib.metadata.PackageNotFoundError as error:
        pytest.skip(f"{error.name} is not installed here")
    homes = importlib.metadata.packages_distributions()
    missing = [
        module for module in EXTRAS[extra] if not brought & {canonicalize_name(home) for home in homes.get(module, [])}
    ]
    assert not missing


def test_the_servers_environment_holds_no_tables_and_no_training() -> None:
    requirements = [Requirement(line) for line in PROJECT["dependencies"]] + direct("onnx") + direct("serve")
    heavy = {
        "pandas",
        "scipy",
        "scikit-learn",
        "pyarrow",
        "torch",
        "transformers",
        "datasets",
        "matplotlib",
        "jinja2",
        "sqlalchemy",
    }
    assert not brought_by(requirements) & heavy


def test_the_server_and_whatever_needs_no_table_import_none_of_their_packages() -> None:
    names = ["serving.app", "serving.processes.supervisor"]
    names += [f"commands.{verb}" for verb in ("serve", "keys", "verify", "tune")]
    lines = ["import sys", "from moderation import Classifier", *(f"import moderation.{name}" for name in names)]
    lines.append(f"print(*(name for name in {TABLES_AND_TRAINING!r} if name in sys.modules))")
    done = run(os.environ | {"PYTHONPATH": str(ROOT)}, "-c", "\n".join(lines))
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


CASES = {
    "score x.csv -o y.csv": "onnx,tables",
    "serve --port 0": "onnx,serve",
    "verify": "onnx",
    "evaluate --suite surge=x.csv": "onnx,suites",
    "evaluate b --suite surge=x.csv": "onnx,suites",
    "evaluate --checkpoint c.pt": "train",
    "check x.csv": "tables",
    "train --data-path x.csv": "train",
    "export run --to bundle": "train",
    "feedback export -o x.csv": "tables,feedback",
}


@pytest.mark.parametrize(("words", "extras"), CASES.items())
def test_a_verb_names_every_extra_that_it_lacks_at_once(words: str, extras: str, verbs: Verbs, tmp_path: Path) -> None:
    verb = words.split()[0]
    done = verbs.run(ALL, words, tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    (line,) = [line for line in done.stderr.splitlines() if "pip install" in line]
    assert line.startswith(f"moderation {verb}: This command needs the package ")
    assert line.endswith(f"pip install '.[{extras}]'")
    assert set(re.findall(r"moderation (\w+)", done.stderr)) <= VERBS.keys(), "no verb that does not exist"


ONE = [
    ("serve --port 0", "tokenizers", "onnx"),
    ("serve --port 0", "onnxruntime", "onnx"),
    ("serve --port 0", "fastapi", "serve"),
    ("serve --port 0", "limits", "serve"),
    ("serve --port 0", "cachetools", "serve"),
    ("serve --port 0", "py3langid", "languages"),
    ("serve --port 0", "pythonjsonlogger", "serve"),
    ("score t.csv -o y.csv", "onnxruntime", "onnx"),
    ("score t.csv -o y.csv", "tokenizers", "onnx"),
    ("score t.csv -o y.csv", "pyarrow", "tables"),
    ("check t.csv", "pandas", "tables"),
    ("check t.csv", "pyarrow", "tables"),
    ("check t.csv --backbone minilm", "transformers", "train"),
    ("check t.csv --detect-language", "py3langid", "languages"),
    ("evaluate --suite binary=t.csv --backend onnx-int8 --html p.html", "jinja2", "suites"),
    ("evaluate --suite binary=t.csv", "sklearn", "suites"),
    ("evaluate --suite binary=t.csv", "pyarrow", "tables"),
    ("train --data-path t.csv", "accelerate", "train"),
    ("train --data-path t.csv", "threadpoolctl", "train"),
    ("train --data-path t.csv", "sklearn", "suites"),
    ("export run --to bundle", "psutil", "train"),
    ("evaluate --checkpoint c.pt", "matplotlib", "train"),
    ("feedback export -o y.csv", "pyarrow", "tables"),
    ("feedback export -o y.csv", "sqlalchemy", "feedback"),
    ("serve --port 0 --feedback-url sqlite:///own.db", "sqlalchemy", "feedback"),
]


@pytest.mark.parametrize(("words", "package", "extra"), ONE, ids=[f"{words.split()[0]}-{one}" for words, one, _ in ONE])
def test_one_missing_package_names_an_extra_that_installs_it(
    words: str, package: str, extra: str, verbs: Verbs, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("comment_text,toxic\nkind,0\nidiot,1\n", encoding="utf-8")
    done = verbs.run([package], words, tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    named = re.findall(r"pip install '\.\[([\w,-]+)\]'", done.stderr)
    assert named
    wider = {
        "tables": {"suites", "migrate", "train"},
        "suites": {"migrate", "train"},
        "migrate": {"train"},
        "feedback": {"serve-postgres"},
    }.get(extra, set())
    assert set(named[-1].split(",")) & {extra, *wider}


@pytest.mark.parametrize("verb", ["tune", "keys"])
def test_code_that_needs_no_extra_runs_without_any(verb: str, verbs: Verbs, tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "p.npy", np.array([[0.2], [0.9], [0.4]], dtype=np.float32))
    np.save(tmp_path / "l.npy", np.array([[0], [1], [0]], dtype=np.float32))
    words = {"tune": "tune --preds p.npy --labels l.npy --label-columns a --bootstrap 5", "keys": "keys add --name a"}
    done = verbs.run(ALL, words[verb], tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_library_names_the_extra_too(tmp_path: Path) -> None:
    environment = without(tmp_path / "hook", *ALL)
    for code, extra in (
        ("from moderation import Classifier", "onnx"),
        ("from model_training import load_english_only", "train"),
        ("from model_training import PosWeightTrainer", "train"),
    ):
        done = run(environment, "-c", code)
        assert done.stderr.splitlines()[-1].endswith(f"pip install '.[{extra}]'")


def test_a_missing_module_of_this_toolkit_is_a_bug_and_an_unknown_one_is_cured_by_all_extras() -> None:
    assert missing_extra(ModuleNotFoundError(name="moderation.gone"), ("serve",)) is None
    assert missing_extra(ModuleNotFoundError(name="dateutil")) is None
    found = missing_extra(ModuleNotFoundError(name="dateutil"), ("tables",))
    assert isinstance(found, MissingExtraError)
    assert found.extra == "tables"
    assert str(missing_extra(ModuleNotFoundError(name="numpy"))).endswith("pip install .")


@contextmanager
def serving(environment: Mapping[str, str], python: str | Path, folder: Path) -> Iterator[str]:
    """Address of a server with the included model."""
    command = [str(python), "-m", "moderation", "serve", "--port", "0", "--drain-s", "0"]
    with (
        (folder / "log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().partition(" at ")[2].partition(" ")[0]
            end = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < end:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{url}readyz", timeout=5).close()
                    break
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def ask(url: str, **body: object) -> dict[str, object]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return dict(json.load(urllib.request.urlopen(request, timeout=60)))


def test_a_real_server_answers_without_tables_and_training(tmp_path: Path) -> None:
    hidden = (*TABLES_AND_TRAINING, "jinja2", "threadpoolctl", "psutil", "huggingface_hub", "sqlalchemy")
    with serving(without(tmp_path / "hook", *hidden), sys.executable, tmp_path) as url:
        assert json.load(urllib.request.urlopen(f"{url}readyz", timeout=60)) == {"status": "ready", "feedback": "off"}
        answer = ask(f"{url}v1/predict", texts=["you are an idiot", "good morning"])
        assert [bool(result["flagged"]) for result in answer["results"]] == [True, False]  # type: ignore[attr-defined]
        assert ask(f"{url}v1/moderations", input="you are an idiot")["results"]
        body = {"comment": {"text": "you are an idiot"}, "requestedAttributes": {"TOXICITY": {}}}
        assert ask(f"{url}v1alpha1/comments:analyze", **body)["attributeScores"]
        assert b"<html" in urllib.request.urlopen(url, timeout=60).read()[:2000]
        suggested = {"comment": body["comment"], "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}}}}
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            ask(f"{url}v1alpha1/comments:suggestscore", **suggested)
        said = json.load(refused.value)["error"]["message"]
        assert "finds the reason" in said and "sqlalchemy" not in said
    (why,) = (line for line in (tmp_path / "log").read_text().splitlines() if "suggestscore answers 404" in line)
    assert "sqlalchemy" in why and "pip install '.[feedback]'" in why


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_servers_environment_is_small_and_complete(tmp_path: Path) -> None:
    """A real environment from the package index: nothing hides anything here."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "model_training.py"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "moderation", source / "moderation")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    subprocess.run([*pip, f"{source}[onnx,serve]"], check=True)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    brought = [path for path in site.iterdir() if not path.name.startswith(("pip", "setuptools", "pkg_resources"))]
    n_bytes = sum(file.stat().st_size for path in brought for file in (path, *path.rglob("*")) if file.is_file())
    assert n_bytes < 250e6
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with serving(clean, python, tmp_path) as url:
        assert ask(f"{url}v1/predict", texts=["you are an idiot"])["results"]
    for words, extras in CASES.items():
        lacking = [extra for extra in extras.split(",") if extra not in ("onnx", "serve")]
        if lacking:
            done = subprocess.run(
                [python, "-m", "moderation", *words.split()], env=clean, cwd=tmp_path, capture_output=True, text=True
            )
            assert done.returncode == 2
            assert done.stderr.rstrip().endswith(f"pip install '.[{','.join(lacking)}]'")
