"""The house as it was drawn: layers, no circles, no heavy imports at the door, calm files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "moderation").rglob("*.py"), ROOT / "model_training.py"])
OURS = {"moderation", "model_training", "benchmarks", "tests"}

# Lowest first; the parts of one line are siblings.
LINES = (
    ("errors", "escapes"),
    (
        *("archives", "calibrators", "categories", "charsmap", "cores", "durations", "extras", "labels"),
        *(
            "language_codes",
            "links",
            "locks",
            "logs",
            "memory",
            "model_bounds",
            "strict_json",
            "text_tables",
            "variables",
        ),
    ),
    ("tunings", "manifest_values"),
    ("options", "artifacts", "forms", "manifests"),
    ("arrays",),
    ("*.options",),  # of the stages: what each of them can be told, which the verbs' settings are made of
    ("documents",),
    ("flags", "inspection"),
    ("pretrained",),
    ("bundles", "backbones", "run_records", "tables"),
    ("data", "evaluation"),
    ("report", "training"),
    ("inference",),
    ("scoring",),
    ("export", "serving", "suites", "migration"),
    ("config",),
    ("commands",),
    ("api", "cli"),
    ("__main__", "model_training"),
)
LEVEL = {part: level for level, line in enumerate(LINES) for part in line}


def name_of(path: Path) -> str:
    """`moderation/tables/reading.py` -> `moderation.tables.reading`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in SOURCES}


def is_options_of_a_stage(module: str) -> bool:
    """`moderation.serving.options`, say."""
    words = module.split(".")
    return len(words) == 3 and words[0] == "moderation" and words[2] == "options"


def part_of(module: str) -> str | None:
    """The part of the house that a module stands in; None for the package's own `__init__`."""
    words = module.split(".")
    if is_options_of_a_stage(module):
        return "*.options"
    return words[1] if words[0] == "moderation" and len(words) > 1 else None if words[0] == "moderation" else words[0]


def imports_of(tree: ast.AST, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Every module of ours that is imported anywhere in a file, in functions and under TYPE_CHECKING too.

    `from moderation import config` names the module `moderation.config`; `importlib.import_module` with a literal
    counts as well.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in OURS)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                package = module.split(".")[: None if is_package else -1]
                source = ".".join([*package[: len(package) - node.level + 1], *filter(None, [source])])
            if source.split(".")[0] in OURS:
                names = [f"{source}.{alias.name}" for alias in node.names]
                yield from (name if name in MODULES else source for name in names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            words = [word.value for word in node.args if isinstance(word, ast.Constant)]
            yield from (word for word in words if word.split(".")[0] in OURS)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


IMPORTS = {
    name: set(imports_of(parse(path), name, is_package=path.name == "__init__.py")) for name, path in MODULES.items()
}


def may_import(part: str, other: str) -> bool:
    return part == other or LEVEL[other] < LEVEL[part]


def test_the_reader_of_imports_sees_what_hides() -> None:
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from moderation.data.cleaning import clean_table\n"
        "def f():\n    import moderation.cli\n    from moderation import errors\n    from ..data import splits\n"
        "importlib.import_module('moderation.flags')\n"
    )
    assert set(imports_of(tree, "moderation.training.model")) == {
        "moderation.data.cleaning",
        "moderation.cli",
        "moderation.errors",
        "moderation.data.splits",
        "moderation.flags",
    }


def test_the_rule_of_the_layers_can_be_broken() -> None:
    assert may_import("data", "errors")
    assert may_import("commands", "training")
    assert not may_import("data", "evaluation")
    assert not may_import("training", "config")
    assert not may_import("evaluation", "training")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_lower_layers_and_never_siblings(module: str) -> None:
    part = part_of(module)
    if part is None:
        behind = {"moderation.inference.classifier", "moderation.api", "moderation.errors", "moderation.extras"}
        assert IMPORTS[module] <= behind, "a door, when asked"
        return
    assert part in LEVEL, f"{part} stands on no line of the design"
    others = {part_of(other) for other in IMPORTS[module]} - {None}
    broken = sorted(other for other in others if other not in LEVEL or not may_import(part, other))
    assert not broken, f"{module} imports {broken}"


def test_commands_do_not_import_each_other() -> None:
    pairs = [
        (module, other)
        for module in IMPORTS
        if part_of(module) == "commands"
        for other in IMPORTS[module]
        if part_of(other) == "commands" and other != module
    ]
    assert not pairs


def test_there_are_no_circular_imports() -> None:
    state: dict[str, str] = {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert state.get(module) != "open", " -> ".join([*path, module])
        if state.get(module) == "done":
            return
        state[module] = "open"
        for other in sorted(IMPORTS.get(module, ())):
            if other != "moderation":
                visit(other, (*path, module))
        state[module] = "done"

    for module in MODULES:
        visit(module, ())


def test_nothing_of_the_toolkit_imports_benchmarks_or_tests() -> None:
    found = [
        (module, other) for module in IMPORTS for other in IMPORTS[module] if part_of(other) in OURS - {"moderation"}
    ]
    assert [pair for pair in found if pair[1] != "model_training"] == []
    assert not [pair for pair in found if pair[0].startswith("moderation")], "the toolkit does not know its door"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_is_short_and_has_a_noun_for_a_name(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert not {"utils", "util", "helpers", "helper", "common", "manager", "misc"} & set(path.stem.split("_"))


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def count_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters of a function, `*args` and `**kwargs` as one each, without `self` and `cls`."""
    words = node.args
    named = [word.arg for word in (*words.posonlyargs, *words.args, *words.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")]) + bool(words.vararg) + bool(words.kwarg)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_function_fits_on_a_screen_and_has_few_parameters(module: str) -> None:
    functions = [*functions_of(parse(MODULES[module]))]
    assert not [node.name for node in functions if int(node.end_lineno or 0) - node.lineno >= 62]
    assert not [node.name for node in functions if count_parameters(node) > 8]


def test_a_function_of_many_parameters_would_be_seen() -> None:
    (node,) = functions_of(ast.parse("def f(self, a, b, /, c, *d, e=1, **g): ..."))
    assert count_parameters(node) == 6


def test_documents_have_types() -> None:
    """An untyped dictionary stands where the outside is untyped: JSON as it comes, other libraries' arguments."""
    counts = {name: path.read_text(encoding="utf-8").count("dict[str, Any]") for name, path in MODULES.items()}
    assert sum(counts.values()) <= 20, {name: count for name, count in counts.items() if count}


def test_a_small_module_has_several_users() -> None:
    users = {name: sum(name in imported for imported in IMPORTS.values()) for name in MODULES}
    small = [name for name, path in MODULES.items() if len(path.read_text(encoding="utf-8").splitlines()) < 40]
    assert not [name for name in small if users[name] == 1 and MODULES[name].name != "__init__.py"]


def test_no_module_has_the_name_of_a_library_that_it_needs() -> None:
    libraries = {"torch", "transformers", "datasets", "numpy", "pandas", "onnx", "onnxruntime", "mlflow", "wandb"}
    assert not [name for name in MODULES if name.split(".")[-1] in libraries]


def public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list):
                continue  # the function that follows says what it does
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(ast.Module(node.body, []))


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_public_function_has_a_docstring(module: str) -> None:
    tree = parse(MODULES[module])
    silent = [node.name for node in public_definitions(tree) if not ast.get_docstring(node)]
    assert ast.get_docstring(tree), "the module has no docstring"
    assert not silent


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_happens_at_import(module: str) -> None:
    """No bare call at module level: what a module does, it does when it is asked."""
    calls = [
        ast.unparse(node)
        for node in parse(MODULES[module]).body
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    ]
    assert not calls


HEAVY = ("torch", "transformers", "datasets")


def heavy_after(code: str, cwd: Path) -> list[str]:
    """Which heavy libraries a fresh interpreter holds after `code`."""
    tail = f"\nimport sys; print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, cwd=cwd, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_a_heavy_import_would_be_seen() -> None:
    assert heavy_after("import sys, types; sys.modules['torch'] = types.ModuleType('torch')", ROOT) == ["torch"]


def test_the_door_and_the_help_start_without_torch() -> None:
    code = """
import contextlib, io, model_training
dir(model_training)
from moderation import cli
for words in (["--help"], *([verb, "--help"] for verb in cli.VERBS)):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        cli.main(words)
    assert "usage:" in out.getvalue()
"""
    assert heavy_after(code, ROOT) == []


def test_tuning_runs_from_end_to_end_without_torch(tmp_path: Path) -> None:
    code = f"""
import numpy as np, model_training
rng = np.random.default_rng(0)
truth = (rng.random((60, 2)) < 0.4).astype(np.float32)
np.save({str(tmp_path / "p.npy")!r}, np.clip(truth * 0.5 + rng.random((60, 2)) * 0.5, 0, 1).astype(np.float32))
np.save({str(tmp_path / "l.npy")!r}, truth)
words = "--tune-thresholds --preds {tmp_path / "p.npy"} --labels {tmp_path / "l.npy"} --label-columns a b --bootstrap 5"
assert model_training.main(words.split()) == 0
"""
    assert heavy_after(code, ROOT) == []
    assert (tmp_path / "thresholds.json").is_file()


def test_options_of_stages_import_little() -> None:
    """Every `--help` imports them all."""
    stages = [module for module in MODULES if is_options_of_a_stage(module)]
    assert "moderation.serving.options" in stages
    heavy = (*HEAVY, "numpy", "pandas", "pyarrow", "fastapi", "starlette", "uvicorn")
    code = f"import sys, {', '.join(stages)}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_one_module_imports_uvicorn() -> None:
    """It gathers what uvicorn does not promise to keep, and a test of its own checks all of it."""
    found = [
        module
        for module, path in MODULES.items()
        for node in ast.walk(parse(path))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and "uvicorn" in {name.split(".")[0] for name in [*(alias.name for alias in node.names), node_module(node)]}
    ]
    assert {*found} == {"moderation.serving.uvicorn_hooks"}


USE_THE_DEFAULT_THREADS = {"to_thread", "run_in_threadpool"}


def users_of_default_threads(tree: ast.AST) -> Iterator[str]:
    """Calls that run in the event loop's default threads: a few that all share, so that one slow use stops the rest."""
    for node in ast.walk(tree):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name in USE_THE_DEFAULT_THREADS:
            yield name
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("run_in_executor"):
            pool = next(iter(node.args), None)
            if pool is None or (isinstance(pool, ast.Constant) and pool.value is None):
                yield "run_in_executor"


def test_no_request_waits_for_the_default_threads() -> None:
    """Routes without `async` (`/metrics`, `/v1/shadow`) have Starlette's threads, and read files of this machine."""
    serving = {name: path for name, path in MODULES.items() if name.startswith("moderation.serving")}
    assert not {name: found for name, path in serving.items() if (found := [*users_of_default_threads(parse(path))])}
    code = "asyncio.to_thread(f)\nfrom x import to_thread\nloop.run_in_executor(None, f)\nloop.run_in_executor(pool, f)"
    assert [*users_of_default_threads(ast.parse(code))] == ["run_in_executor", "to_thread"]


def node_module(node: ast.Import | ast.ImportFrom) -> str:
    """Of `from X import y`, X."""
    return (node.module or "") if isinstance(node, ast.ImportFrom) and not node.level else ""


def test_checking_a_table_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("comment_text,toxic\na,0\nb,1\n", encoding="utf-8")
    code = f"from moderation import cli; assert cli.main(['check', {str(tmp_path / 't.csv')!r}]) == 0"
    assert heavy_after(code, ROOT) == []


def test_the_package_itself_starts_with_nothing() -> None:
    code = "import sys, moderation; assert 'numpy' not in sys.modules; assert 'Classifier' in dir(moderation)"
    assert heavy_after(code, ROOT) == []


def test_siblings_of_one_line_are_distinct() -> None:
    """The lines above name each part once, or a level would be overwritten in silence."""
    assert not [pair for pair in combinations(LINES, 2) if set(pair[0]) & set(pair[1])]


DOOR = "moderation.pretrained"
BEHIND_THE_DOOR = {"from_pretrained", "from_config", "for_model", "pipeline", "get_class_from_dynamic_module"}
RUN_WHAT_THEY_READ = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy"}


def is_loader(name: str) -> bool:
    return name.startswith("Auto") or name in BEHIND_THE_DOOR


def dangers_of(tree: ast.AST, *, door: bool = False) -> Iterator[str]:
    """What in a file may run code that it reads: loaders of transformers outside the door, pickles, `eval`.

    Args:
        tree: The file.
        door: Whether it is the one that may use the loaders.
    """
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            yield from (module for module in modules if module.split(".")[0] in RUN_WHAT_THEY_READ)
            if modules[0].split(".")[0] == "transformers" and not door:
                yield from filter(is_loader, names)
        elif isinstance(node, ast.Attribute):
            if is_loader(node.attr) and not door:
                yield node.attr
        elif isinstance(node, ast.Call):
            yield from dangers_of_call(node)


def dangers_of_call(node: ast.Call) -> Iterator[str]:
    name, arguments = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
    if name in ("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"):
        yield name
    if name.endswith("torch.load") and arguments.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if arguments.get("allow_pickle", "False") != "False":
        yield f"{name} with pickles"
    if name.startswith("yaml.") and "safe" not in name:
        yield name
    if arguments.get("trust_remote_code", "False") != "False":
        yield f"{name} with trust_remote_code"
    if name.endswith((".from_pretrained", ".from_config", ".pipeline")) and "trust_remote_code" not in arguments:
        yield f"{name} that is not told what to trust"
    if name.endswith(".from_pretrained") and arguments.get("local_files_only") != "True":
        yield f"{name} that may ask the hub"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_runs_code_that_it_reads(module: str) -> None:
    """Configurations, tokenizers and models of others come through one door, and nothing is unpickled or evaluated."""
    assert not [*dangers_of(parse(MODULES[module]), door=module == DOOR)]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "from transformers import AutoTokenizer",
        "import transformers\ntransformers.AutoModel",
        "from transformers import pipeline",
        "BertModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False)",
        "load = config.for_model",
        "eval('1')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.lib.format.read_array(file, allow_pickle=flag)",
        "yaml.load(file)",
    ],
)
def test_code_that_runs_what_it_reads_would_be_seen(code: str) -> None:
    assert [*dangers_of(ast.parse(code))]


@pytest.mark.parametrize("code", ["auto.from_pretrained(folder)", "auto.from_config(config, trust_remote_code=None)"])
def test_the_door_refuses_each_time(code: str) -> None:
    assert [*dangers_of(ast.parse(code), door=True)]


def unsafe_children(tree: ast.AST) -> Iterator[str]:
    """Commands of our own Python that would look for modules in the current folder: a list, or `spawn`."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.List, ast.Tuple)):
            words = [ast.unparse(word) for word in node.elts]
            if words[:1] == ["sys.executable"] and words[1:2] not in (["'-P'"], ["'-I'"]):
                yield ast.unparse(node)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_child_looks_for_modules_in_the_current_folder(module: str) -> None:
    source = MODULES[module].read_text(encoding="utf-8")
    assert not [*unsafe_children(ast.parse(source))]
    if (
        "get_context" in source
        or "multiprocessing.Process" in source
        or "Worker(" in source.replace("class Worker(", "")
    ):
        assert '"PYTHONSAFEPATH"' in source, "what is spawned runs `python -c`"


def test_workers_of_the_server_are_among_them() -> None:
    [user] = [
        name
        for name, path in MODULES.items()
        if " Worker(" in path.read_text(encoding="utf-8").replace("class Worker(", "")
    ]
    assert '"PYTHONSAFEPATH"' in MODULES[user].read_text(encoding="utf-8"), "uvicorn spawns them"


def test_a_child_that_looks_into_the_current_folder_would_be_seen() -> None:
    assert [*unsafe_children(ast.parse("run([sys.executable, '-m', 'pip', *words])"))]
    assert not [*unsafe_children(ast.parse("run([sys.executable, '-P', '-m', 'pip'])"))]


@pytest.mark.parametrize("path", [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").glob("*.py")], ids=name_of)
def test_benchmarks_and_examples_run_no_code_either(path: Path) -> None:
    """They may measure transformers itself, which is told to trust nothing."""
    calls = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
    assert not [danger for node in calls for danger in dangers_of_call(node)]
    loaders = [node for node in calls if ast.unparse(node.func).split(".")[-1] in BEHIND_THE_DOOR]
    assert not [ast.unparse(node) for node in loaders if "trust_remote_code=False" not in ast.unparse(node)]
