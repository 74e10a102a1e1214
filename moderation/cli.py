"""Verbs -> recipes; errors -> exit codes. Recipes are imported when their verb is called, so that `--help` is quick."""

import argparse
import errno
import importlib
import importlib.metadata
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from moderation import config
from moderation.errors import MissingExtraError, ModerationError
from moderation.flags import add_flags, merge

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORMS = {"--tune-thresholds": "tune", "--eval": "evaluate"}
EXIT_CODES = (
    "exit codes: 0 done, 1 data or artifacts, 2 usage or settings, 3 finished, but some rows could not be scored, "
    "130 interrupted, 143 terminated"
)


@dataclass(frozen=True)
class Verb:
    """One verb: its settings, its recipe `moderation.recipes.<name>:<name>`, its help.

    Settings with a property `recipe` say themselves by which recipe they are done.
    Settings of a verb with an `environment` may also stand in variables named `MODERATION_<SETTING>`.
    """

    config_class: type[Any]
    summary: str
    example: str
    positional: str | None = None
    heavy: bool = False
    environment: bool = False


VERBS: dict[str, Verb] = {
    "train": Verb(
        config.TrainConfig,
        "fine-tune a backbone on labelled comments, tune thresholds, evaluate, write a run folder",
        "moderation train --data-path train.csv --output-dir runs/exp1 --epochs 3 --batch-size 16 --lr 2e-5",
        heavy=True,
    ),
    "tune": Verb(
        config.TuneConfig,
        "choose one threshold per label on validation predictions",
        "moderation tune --preds runs/exp1/preds_val.npy --labels runs/exp1/labels_val.npy --objective fbeta:2",
    ),
    "evaluate": Verb(
        config.EvaluateConfig,
        "measure a checkpoint on its test split or on another table, or a bundle on suites of others",
        "moderation evaluate --checkpoint runs/exp1/checkpoint_best.pt --thresholds runs/exp1/thresholds.json",
        positional="bundle",
        heavy=True,
    ),
    "check": Verb(
        config.CheckConfig,
        "report what a table of labelled comments holds and everything that is wrong with it",
        "moderation check train.csv --backbone minilm",
        positional="data_path",
    ),
    "export": Verb(
        config.ExportConfig,
        "write a trained model as a bundle in several forms, each compared with torch",
        "moderation export runs/exp1 --to model-export --formats hf,onnx,onnx-int8",
        positional="run",
        heavy=True,
    ),
    "score": Verb(
        config.ScoreConfig,
        "classify every text of a file of any size, or of standard input",
        "moderation score comments.csv.gz -o scored.parquet --model model-export",
        positional="input_path",
    ),
    "serve": Verb(
        config.ServeConfig,
        "answer HTTP requests from a bundle, in its own language, OpenAI's and the Perspective API's",
        "moderation serve --model model-export --port 8000",
        environment=True,
    ),
    "keys": Verb(
        config.KeysConfig,
        "make, list and remove API keys of the server",
        "moderation keys add --keys keys.json --name forum",
        positional="action",
    ),
    "feedback": Verb(
        config.FeedbackConfig,
        "write the decisions that moderators sent to the server as a table for training",
        "moderation feedback export -o decisions.csv --feedback-url sqlite:///moderation-feedback.db",
        positional="action",
    ),
    "verify": Verb(
        config.VerifyConfig,
        "hash a bundle's files, load each of its forms and compare their answers",
        "moderation verify model-export",
        positional="bundle",
    ),
}


class _Parser(argparse.ArgumentParser):
    """Usage errors in two lines that name the verb; the usage itself would fill more than a screen."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nAll flags: {self.prog} --help\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:  # said by the verb's parser, which argparse would leave to the one above
            self.error(f"unrecognized arguments: {self._show(unknown)}{self._guess(unknown)}")
        return found, unknown

    def _show(self, unknown: Sequence[str]) -> str:
        """What was not understood; of `score` only the flags, since words there may be a text without its quotes."""
        if not self.prog.endswith(" score"):
            return " ".join(unknown)
        flags = [word.partition("=")[0] for word in unknown if word.startswith("--")]
        n_words = len(unknown) - len(flags)
        words = (
            [f'{n_words} more word{"s" if n_words > 1 else ""} (a text needs quotes: --text "...")'] if n_words else []
        )
        return ", ".join([*flags, *words])

    def _guess(self, unknown: Sequence[str]) -> str:
        known = [option for action in self._actions for option in action.option_strings]
        guesses = [guess for word in unknown for guess in get_close_matches(word, known, n=1, cutoff=0.8)]
        return f". Did you mean {', '.join(guesses)}?" if guesses else ""


def build_parser() -> argparse.ArgumentParser:
    """The one parser of the toolkit."""
    parser = _Parser(
        prog="moderation",
        description="Multi-label toxicity detection: train, tune a threshold per label, evaluate, export, serve.",
        epilog=f"{EXIT_CODES}\n\nexample:\n  {VERBS['train'].example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"content-moderation {_version()}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        sub = verbs.add_parser(
            name,
            help=verb.summary,
            description=verb.summary[0].upper() + verb.summary[1:] + ".",
            epilog=f"{EXIT_CODES}\n{_other_forms(name)}\nexample:\n  {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add_flags(sub, verb.config_class, positional=verb.positional)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("content-moderation")
    except importlib.metadata.PackageNotFoundError:  # run from its folder, without an installation
        return "unknown"


def _other_forms(verb: str) -> str:
    """Lines of `train --help` that name the other forms of `python -m model_training`."""
    if verb != "train":
        return ""
    lines = (
        f"  python -m model_training {form} --help    the same as: moderation {name}" for form, name in FORMS.items()
    )
    return "\nother forms of `python -m model_training`:\n" + "\n".join(lines) + "\n"


def main_by_form(argv: Sequence[str]) -> int:
    """Run the verb that `--tune-thresholds` or `--eval` names among the words; without either, `train`."""
    named = sorted(FORMS.keys() & set(argv))
    if len(named) > 1:
        print(f"model_training: {' and '.join(named)} name two different forms; give one of them.", file=sys.stderr)
        return 2
    verb = FORMS[named[0]] if named else "train"
    return main([verb, *(word for word in argv if word not in FORMS)])


def _load_recipe(name: str) -> Any:
    """The function that does a verb.

    Raises:
        MissingExtraError: it needs packages of training, and only those for classifying are installed.
    """
    try:
        return getattr(importlib.import_module(f"moderation.recipes.{name}"), name)
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] in ("moderation", "model_training"):
            raise  # a fault of ours
        raise MissingExtraError(f"moderation {name} ({error.name})", "train") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: Words after the program's name; default: those of the process.

    Returns:
        The exit code: 0 done, 1 data or artifacts, 2 usage or settings, 3 finished, but some rows could not be
        scored, 130 interrupted, 143 terminated.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    flags = vars(build_parser().parse_args(argv))
    verb = flags.pop("verb")
    try:
        settings = merge(VERBS[verb].config_class, flags, os.environ if VERBS[verb].environment else {})
        name = getattr(settings, "recipe", verb)
        if VERBS[verb].heavy and name == verb:
            logging.getLogger(__name__).info("Loading PyTorch ...")
        recipe = _load_recipe(name)
        with nullcontext() if verb == "serve" else _ended_by_sigterm():
            return int(recipe(settings))
    except ModerationError as error:
        print(f"moderation {verb}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # the machine's fault or a path's; what this toolkit writes is an ArtifactError by now
        if error.filename is None and error.errno not in DISK_FULL:
            raise
        cure = "Free some space." if error.errno in DISK_FULL else "Check the path and its rights."
        print(f"moderation {verb}: {error.filename or 'a file'}: {error.strerror}. {cure}", file=sys.stderr)
        return 1
    except _Terminated:
        print(f"moderation {verb}: terminated.", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print(f"moderation {verb}: interrupted.", file=sys.stderr)
        return 130


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end what is done here as Ctrl-C does, so that nothing half-written stays behind."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    here = os.getpid()

    def end(number: int, frame: object) -> None:
        if os.getpid() == here:
            signal.signal(number, signal.SIG_IGN)  # a second one would break off the cleaning up
            raise _Terminated
        signal.signal(number, signal.SIG_DFL)  # a fork of this process
        os.kill(os.getpid(), number)

    try:
        signal.signal(signal.SIGTERM, end)
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
