"""Shared fixtures: a tiny real backbone, a labelled table, the folder of licensed data where it is to be had."""

import base64
import hashlib
import importlib.metadata
import logging
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

pytest_plugins = ["tests.attack_table"]

LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
SEED = int(os.environ.get("TINY_SEED", 0))  # another one trains another tiny model, as another processor may
WORDS = [*"abcdefghijklmnopqrstuvwxyz", "kind", "fine", "bread", "river", "idiot", "stupid", "damn", "kill", "them"]


def pytest_configure() -> None:
    """Set what the tests and the programs that they start inherit.

    Small products gain nothing from a second thread, which waits by spinning. Programs that a shell starts in the
    background ignore Ctrl-C, and so would those that the tests start.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test has logged may hold file names that are not UTF-8, which cannot travel between processes."""
    report = yield
    report.sections = [(name, content.encode(errors="backslashreplace").decode()) for name, content in report.sections]
    return report


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the licensed data sets, which are no part of the project."""
    folder = Path(os.environ.get("MODERATION_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("licensed data sets are not there; name their folder in MODERATION_SHARED")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the encodings of tests, and of what several tests share, out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODERATION_CACHE", str(tmp_path_factory.getbasetemp() / "moderation-cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_table_of_languages() -> Iterator[None]:
    """Unpack the languages, which takes half a second, once for each process of the tests, not for each command."""
    from py3langid.langid import LanguageIdentifier

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LanguageIdentifier, "from_model_file", staticmethod(cache(LanguageIdentifier.from_model_file)))
        yield


@pytest.fixture(autouse=True)
def own_logging() -> None:
    """Log as in a fresh process, whatever the libraries of earlier tests have set."""
    if absl := sys.modules.get("absl.logging"):  # settings of logs close its handler, which would close pytest's stream
        absl.get_absl_handler().python_handler.close = lambda: None
    logging.disable(logging.NOTSET)
    logging.root.setLevel(logging.WARNING)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.split(".")[0] == "moderation" and isinstance(logger, logging.Logger):
            logger.disabled, logger.propagate = False, True
            logger.setLevel(logging.NOTSET)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """This session's copy of a folder that is made once per machine, so that no test can damage those of later ones."""
    base = factory.getbasetemp()
    place = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = place / "once" / name
    with FileLock(place / f"{name}.lock"):
        if not folder.exists():
            shutil.copytree(cached(name, make), folder)
    return folder


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the tests' cache. One process makes it, others wait for it; what a killed one left is made again."""
    place = tests_cache()
    folder, done = place / name, place / f"{name}.done"
    with FileLock(place / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


@cache
def tests_cache() -> Path:
    """The cache for this code, these libraries and this seed; those of other code go when unused for a week.

    They are in `content-moderation-tests` in the folder `TINY_CACHE`, by default the user's cache.
    """
    user = os.environ.get("TINY_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = Path(user) / "content-moderation-tests"
    place = home / code_hash()
    place.mkdir(parents=True, exist_ok=True)
    os.utime(place)
    for old in home.iterdir():
        if old.stat().st_mtime < time.time() - 7 * 86_400:
            shutil.rmtree(old, ignore_errors=True)
    return place


def code_hash() -> str:
    """A hash of all that decides what a training and an export write here."""
    versions = {(found.name, found.version) for found in importlib.metadata.distributions()}
    found = hashlib.sha256(repr((SEED, sys.version, platform.platform(), sorted(versions))).encode())
    package = Path(__file__).parents[1] / "moderation"
    unused = [package / name for name in ("models", "serving", "suites", "migration", "__pycache__")]
    sources = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    for path in [Path(__file__), *sorted(sources)]:
        if not any(path.is_relative_to(folder) for folder in unused):
            found.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real BERT of two layers with random weights and a real word-piece tokenizer, as a local folder."""
    return made_once(tmp_path_factory, "backbone", make_backbone)


def make_backbone(folder: Path) -> None:
    """Write the tiny backbone."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder.mkdir()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(folder)
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)


def make_table(n_rows: int, seed: int = 0) -> pd.DataFrame:
    """Comments of random words whose labels follow from some of the words."""
    rng = np.random.default_rng(seed)
    texts, targets = [], []
    for row in range(n_rows):
        words = list(rng.choice(WORDS[:30], size=int(rng.integers(1, 30))))
        flags = rng.random(5) < (0.25, 0.2, 0.15, 0.12, 0.1)
        words += [word for word, flag in zip(("idiot", "stupid", "damn", "kill", "them"), flags, strict=True) if flag]
        rng.shuffle(words)
        texts.append(" ".join(words) + f" {row}")
        targets.append([flags.any(), flags[0] and flags[1], flags[2], flags[3], flags[0], flags[4]])
    return pd.DataFrame({"id": [f"r{i}" for i in range(n_rows)], "comment_text": texts}).join(
        pd.DataFrame(np.array(targets, dtype=int), columns=list(LABELS))
    )


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """600 comments with six labels, each with positives in every split."""
    return make_table(600)


@pytest.fixture(scope="session")
def table_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table as a CSV file."""
    return made_once(tmp_path_factory, "data", make_table_file) / "comments.csv"


def make_table_file(folder: Path) -> None:
    """Write the table."""
    folder.mkdir()
    make_table(600).to_csv(folder / "comments.csv", index=False)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: the tiny backbone trained on the table until its labels differ. Read it, do not change it."""
    return made_once(tmp_path_factory, "run", make_run)


def make_run(folder: Path) -> None:
    """Train the tiny backbone. The run's record names files of the cache, which later sessions find too."""
    from moderation import cli

    backbone, data = cached("backbone", make_backbone), cached("data", make_table_file) / "comments.csv"
    words = f"--data-path {data} --backbone {backbone} --output-dir {folder} --threads 1"
    settings = "--max-length 32 --epochs 6 --batch-size 16 --lr 5e-3 --bootstrap 0"
    assert cli.main(["train", *words.split(), *settings.split()]) == 0


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as a bundle with the forms hf, onnx, onnx-int8 and torchscript. Read it, do not change it."""
    pytest.importorskip("onnxruntime")
    return made_once(tmp_path_factory, "tiny", make_bundle)


def make_bundle(folder: Path) -> None:
    """Export the tiny run."""
    from moderation import cli

    words = f"export {cached('run', make_run)} --to {folder} --formats hf,onnx,onnx-int8,torchscript --threads 1"
    words += " --allow onnx-int8"  # a fresh tiny model differs by rounding alone, by more or less than its limit
    assert cli.main([*words.split(), "--parity-texts", "100"]) == 0


@pytest.fixture(scope="session")
def speedy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as a bundle with every form that `tiny_bundle` lacks. Read it, do not change it."""
    return made_once(tmp_path_factory, "speedy", make_speedy_bundle)


def make_speedy_bundle(folder: Path) -> None:
    """Export the tiny run for OpenVINO and for other servers."""
    from moderation import cli

    words = f"export {cached('run', make_run)} --to {folder} --formats onnx,openvino,torch,triton,torchserve"
    words += " --threads 1 --parity-texts 100 --allow openvino --name tiny"
    assert cli.main(words.split()) == 0


@pytest.fixture
def short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let exports compare no text of thousands of windows, on which they spend their time; `tiny_bundle` did."""
    from moderation.export.odd_texts import ODD_TEXTS

    for name in [name for name, text in ODD_TEXTS.items() if len(text) > 5_000]:
        monkeypatch.delitem(ODD_TEXTS, name)


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the pictures of reports, but do not paint them, which takes longer than a small training."""
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    monkeypatch.setattr("moderation.report.plots.to_png", lambda figure: base64.b64decode(pixel))


@pytest.fixture(scope="session")
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which no file of this process can grow beyond so many bytes; writing on fails, as on a full disk."""
    resource = pytest.importorskip("resource", reason="file size limits are a POSIX feature")

    @contextmanager
    def limited(n_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)

    return limited
