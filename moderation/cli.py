"""Verbs -> commands; errors -> exit codes. A command is imported only when its verb runs, so that `--help` is quick."""

import argparse
import errno
import importlib
import logging
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from moderation import config
from moderation.cores import count_cores
from moderation.errors import ModerationError
from moderation.escapes import escaped_output
from moderation.extras import missing_extra, modules_of, require, toolkit_version
from moderation.flags import add_flags, merge, warn_of_variables
from moderation.logs import LogLevel, configure_logs
from moderation.memory import is_out_of_memory
from moderation.options import change, flatten

logger = logging.getLogger(__name__)

_WHOLE = {"suites", "migrate", "train"}
"""Extras whose packages must all be installed before anything starts: some are needed only after hours."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORMS = {"--tune-thresholds": "tune", "--eval": "evaluate"}
EXIT_CODES = {
    0: "done",
    1: "a problem with data or artifacts",
    2: "a problem with usage or settings",
    3: "finished, but some rows could not be scored",
    130: "interrupted",
    143: "terminated",
}
_USE, _TRAIN, _SERVER = "use a model", "make a model", "manage the server"


@dataclass(frozen=True)
class Verb:
    """One verb: its settings, its command `moderation.commands.<name>:<name>`, its help.

    If the settings have a property `command`, it names the command that does the work; `extras` names what that needs.

    Args:
        config_class: The class of its settings.
        summary: What it does, in one line.
        example: A command that runs.
        group: Its heading in the list of all verbs.
        positional: The setting that is given without a flag.
        extras: Extras of this toolkit that install the packages it needs.
        heavy: Whether it loads torch.
        environment: Whether settings can also come from variables named `MODERATION_<SETTING>`.
        some_fail: Whether it can finish even if some rows fail.
        until_stopped: Whether it runs until it is stopped, so that being stopped is not an error.
    """

    config_class: type[Any]
    summary: str
    example: str
    group: str = ""
    positional: str | None = None
    extras: tuple[str, ...] = ()
    heavy: bool = False
    environment: bool = False
    some_fail: bool = False
    until_stopped: bool = False

    @property
    def exit_codes(self) -> list[int]:
        """The codes that it can end with."""
        left_out = ([] if self.some_fail else [3]) + ([130, 143] if self.until_stopped else [])
        return [code for code in EXIT_CODES if code not in left_out]


VERBS: dict[str, Verb] = {
    "score": Verb(
        config.ScoreConfig,
        "classify every text of a file of any size, or of standard input",
        "moderation score comments.csv.gz -o scored.parquet",
        _USE,
        positional="input_path",
        extras=("onnx",),
        some_fail=True,
    ),
    "serve": Verb(
        config.ServeConfig,
        "answer HTTP requests: its own API, OpenAI's moderation endpoint, and the Perspective API",
        "moderation serve --port 8000",
        _USE,
        extras=("onnx", "serve"),
        environment=True,
        until_stopped=True,
    ),
    "evaluate": Verb(
        config.EvaluateConfig,
        "measure a model on labelled data: a bundle on public test suites, or a checkpoint on a table",
        "moderation evaluate --checkpoint runs/exp1/checkpoint_best.pt --thresholds runs/exp1/thresholds.json",
        _USE,
        positional="bundle",
        heavy=True,
    ),
    "verify": Verb(
        config.VerifyConfig,
        "check that a bundle is unchanged and that each of its forms still gives the same answers",
        "moderation verify model-export",
        _USE,
        positional="bundle",
        extras=("onnx",),
    ),
    "migrate": Verb(
        config.MigrateConfig,
        "find thresholds that keep making the decisions that Perspective's scores made",
        "moderation migrate comments.csv -o migration --old-threshold 0.8",
        _USE,
        positional="input_path",
        extras=("onnx", "migrate"),
    ),
    "check": Verb(
        config.CheckConfig,
        "report what a table of labelled comments contains and everything that is wrong with it",
        "moderation check train.csv --backbone minilm",
        _TRAIN,
        positional="data_path",
        extras=("tables",),
    ),
    "train": Verb(
        config.TrainConfig,
        "fine-tune a model on labelled comments, tune its thresholds, evaluate it, and write a run folder",
        "moderation train --data-path train.csv --output-dir runs/exp1 --epochs 3 --batch-size 16 --lr 2e-5",
        _TRAIN,
        extras=("train",),
        heavy=True,
    ),
    "tune": Verb(
        config.TuneConfig,
        "choose one threshold per label from validation predictions",
        "moderation tune --preds runs/exp1/preds_val.npy --labels runs/exp1/labels_val.npy --objective fbeta:2",
        _TRAIN,
    ),
    "export": Verb(
        config.ExportConfig,
        "turn a run folder into a bundle for scoring and serving, in several forms, each compared with torch",
        "moderation export runs/exp1 --to model-export --formats hf,onnx,onnx-int8",
        _TRAIN,
        positional="run",
        extras=("train",),
        heavy=True,
    ),
    "keys": Verb(
        config.KeysConfig,
        "add, list and remove the server's API keys",
        "moderation keys add --keys keys.json --name forum",
        _SERVER,
        positional="action",
    ),
    "feedback": Verb(
        config.FeedbackConfig,
        "export the decisions that moderators sent to the server, as a table for training",
        "moderation feedback export -o decisions.csv --feedback-url sqlite:///moderation-feedback.db",
        _SERVER,
        positional="action",
        extras=("tables", "feedback"),
    ),
}


class _Parser(argparse.ArgumentParser):
    """Usage errors take two lines that name the verb; argparse's own usage text would fill more than a screen."""

    def error(self, message: str) -> NoReturn:
        actions = [action for action in self._actions if not action.option_strings and action.choices]
        if "required: action" in message and actions:
            message = f"name an action: {' | '.join(map(str, actions[0].choices or ()))}"
        message = message.replace("invalid int value:", "expected a whole number, not")
        message = message.replace("invalid float value:", "expected a number, not")
        self.exit(2, f"{self.prog}: {message}\nAll flags: {self.prog} --help\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:  # reported by the verb's parser; argparse would leave it to the parent parser
            self.error(f"unrecognized arguments: {self._show(unknown)}{self._guess(unknown)}")
        return found, unknown

    def _show(self, unknown: Sequence[str]) -> str:
        """What was not understood; for `score` only the flags, since its words may be a user's text without quotes."""
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
        usage="%(prog)s [-h] [--version] VERB ...",
        description=f"Toxicity detection with several labels: score, serve, train, evaluate.\n\n{_list_verbs()}",
        epilog=f"{_list_exit_codes(EXIT_CODES)}\n\nexample:\n  {VERBS['score'].example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"content-moderation {toolkit_version()}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", prog=parser.prog, help=argparse.SUPPRESS)
    for name, verb in VERBS.items():
        codes = {code: meaning for code, meaning in EXIT_CODES.items() if code in verb.exit_codes}
        sub = verbs.add_parser(
            name,
            description=textwrap.fill(verb.summary[0].upper() + verb.summary[1:] + ".", 100),
            epilog=f"{_list_exit_codes(codes)}\n{_other_forms(name)}\nexample:\n  {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add_flags(sub, verb.config_class, positional=verb.positional)
    return parser


def _list_verbs() -> str:
    """The verbs under their headings, the most used ones first."""
    lines = []
    for group in dict.fromkeys(verb.group for verb in VERBS.values()):
        lines += ["", f"{group}:"]
        for name, verb in VERBS.items():
            if verb.group == group:
                lines += textwrap.wrap(f"  {name:10}{verb.summary}", 100, subsequent_indent=" " * 12)
    return "\n".join([*lines[1:], "", "moderation VERB --help shows a verb's settings and an example"])


def _list_exit_codes(codes: Mapping[int, str]) -> str:
    """One line."""
    return "exit codes: " + ", ".join(f"{code} {meaning.replace(',', '')}" for code, meaning in codes.items())


def _other_forms(verb: str) -> str:
    """Lines of `train --help` that name the other forms of `python -m model_training`."""
    if verb != "train":
        return ""
    lines = (
        f"  python -m model_training {form} --help    the same as: moderation {name}" for form, name in FORMS.items()
    )
    return "\nother forms of `python -m model_training`:\n" + "\n".join(lines) + "\n"


def main_by_form(argv: Sequence[str]) -> int:
    """Run the verb that `--tune-thresholds` or `--eval` in the arguments names; without either, `train`."""
    named = sorted(FORMS.keys() & set(argv))
    if len(named) > 1:
        print(f"model_training: {' and '.join(named)} name two different forms; give one of them.", file=sys.stderr)
        return 2
    verb = FORMS[named[0]] if named else "train"
    return main([verb, *(word for word in argv if word not in FORMS)])


def _run(verb: str, flags: dict[str, object], level: LogLevel | None) -> int:
    """Read the settings, then run the command.

    Raises:
        ModerationError: anything that a user can cause and fix; also a package that is not installed.
    """
    about = VERBS[verb]
    configure_logs(level or "info", as_json=about.environment)
    settings = merge(about.config_class, flags, os.environ if about.environment else {})
    if about.environment:
        configure_logs(settings.log_level)
    else:
        readers = {name: other.config_class for name, other in VERBS.items() if other.environment}
        warn_of_variables(about.config_class, os.environ, readers)
        settings = _fit_threads(settings)
    name, extras = getattr(settings, "command", verb), getattr(settings, "extras", about.extras)
    for extra in _WHOLE & set(extras):
        require(modules_of(extra), extras)
    if about.heavy and name == verb:
        logger.info("Loading PyTorch ...")
    try:
        command = getattr(importlib.import_module(f"moderation.commands.{name}"), name)
        with nullcontext() if about.until_stopped else _ended_by_sigterm():
            return int(command(settings))
    except ModuleNotFoundError as error:
        if missing := missing_extra(error, extras):
            raise missing from error
        raise


def _fit_threads(settings: Any) -> Any:
    """The settings, with no more threads than cores: more would only slow each other down."""
    threads = flatten(settings).get("threads")
    if threads is None or threads <= (n_cores := count_cores()):
        return settings
    logger.warning("--threads %d: only %d cores are available; using %d.", threads, n_cores, n_cores)
    return change(settings, threads=n_cores)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: Arguments after the program's name; default: those of the process.

    Returns:
        The exit code, one of `EXIT_CODES`.
    """
    with escaped_output():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    flags = vars(build_parser().parse_args(argv))
    verb = flags.pop("verb")
    level = flags.get("log_level") if VERBS[verb].environment else flags.pop("log_level", None)
    try:
        return _run(verb, flags, level)
    except ModerationError as error:
        print(f"moderation {verb}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        # A problem of the machine or a path; failed writes of this toolkit are ArtifactErrors by now.
        if error.errno is None:  # raised by a library, with its own message
            raise
        where = "Check the path and its permissions." if error.filename else "Check that disks and TMPDIR are writable."
        cure = "Free some space." if error.errno in DISK_FULL else where
        print(f"moderation {verb}: {error.filename or 'a file'}: {error.strerror}. {cure}", file=sys.stderr)
        return 1
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(
            f"moderation {verb}: not enough memory. Use a smaller table (on a GPU: smaller batches), end other "
            "programs, or raise the limit of this one (ulimit -v, or that of its container).",
            file=sys.stderr,
        )
        return 1
    except _Terminated:
        print(f"moderation {verb}: terminated.", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print(f"moderation {verb}: interrupted.", file=sys.stderr)
        return 130


class _Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end this block like Ctrl-C, so that no half-written file stays behind."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    here = os.getpid()

    def end(number: int, frame: object) -> None:
        if os.getpid() == here:
            signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the cleanup
            raise _Terminated
        signal.signal(number, signal.SIG_DFL)  # in a fork of this process
        os.kill(os.getpid(), number)

    try:
        signal.signal(signal.SIGTERM, end)
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
