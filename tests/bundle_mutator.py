"""Bundles that are wrong in many ways: a sound one is changed in one place, and sealed again or not.

Each change has a name of its own and is drawn from a seeded generator, so that a case can be made once more.
"""

import base64
import copy
import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moderation.manifests import MANIFEST, manifest_version

Change = Callable[[Path, random.Random], None]
JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e300,
    -1e300,
    5e-324,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\x00",
    "\x1b[31m",
    "\u202e",
    "\ud800",
    "é" * 5000,
    "../../etc/passwd",
    "/etc/passwd",
    [],
    [None],
    [[[]]],
    ["x"] * 100_000,
    {},
    {"x": None},
    {"": {"": {}}},
)


@dataclass(frozen=True)
class Mutation:
    """One way in which a bundle is wrong.

    Args:
        kind: `manifest`, `tokenizer`, `graph`, `file` or `folder`.
        name: What is changed.
        change: Changes a copy of a bundle.
        sealed: Whether the manifest's hashes are made to fit again.
    """

    kind: str
    name: str
    change: Change
    sealed: bool = True


def mutate(bundle: Path, folder: Path, mutation: Mutation, seed: int) -> None:
    """Write a bundle that is wrong in one place.

    Args:
        bundle: A sound one; it is left as it is.
        folder: Of the new one.
        mutation: What is wrong with it.
        seed: Of the random choices in it.
    """
    shutil.copytree(bundle, folder)
    mutation.change(folder, random.Random(f"{mutation.kind} {mutation.name} {seed}"))
    if mutation.sealed:
        seal(folder)


def seal(folder: Path) -> None:
    """Make sizes, hashes and version fit, as somebody would who wants to deceive."""
    import hashlib

    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8", errors="surrogatepass"))
        for name, facts in content["files"].items():
            if not (folder / name).is_file() or (folder / name).resolve().parent not in (
                folder,
                folder / "onnx",
                folder / "openvino",
            ):
                continue
            data = (folder / name).read_bytes()
            facts |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    except Exception:
        pass
    try:
        content["version"] = manifest_version(content)
        (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")
    except Exception:
        pass


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all values of a JSON document, a few of long lists."""
    found = [path]
    if isinstance(value, dict):
        for key in list(value)[:12]:
            found += _places(value[key], (*path, key))
    elif isinstance(value, list):
        for place in range(min(len(value), 4)):
            found += _places(value[place], (*path, place))
    return found


def _change_json(name: str, change: Callable[[Any, random.Random], Any]) -> Change:
    def apply(folder: Path, rng: random.Random) -> None:
        path = folder / name
        content = change(json.loads(path.read_text(encoding="utf-8")), rng)
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")

    return apply


def _set(path: tuple[Any, ...], value: Any) -> Callable[[Any, random.Random], Any]:
    def change(content: Any, _: random.Random) -> Any:
        part = content
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        return content

    return change


def _anything_anywhere(parts: tuple[str, ...]) -> Callable[[Any, random.Random], Any]:
    """Replace, remove or double a value at a random place below some keys."""

    def change(content: Any, rng: random.Random) -> Any:
        places = [path for path in _places(content) if path and path[0] in parts]
        path = rng.choice(places)
        part = content
        for key in path[:-1]:
            part = part[key]
        what = rng.choice(["replace", "replace", "replace", "remove", "double"])
        if what == "remove":
            del part[path[-1]]
        elif what == "double" and isinstance(part, list):
            part.append(copy.deepcopy(part[path[-1]]))
        elif what == "double":
            part[f"{path[-1]} "] = copy.deepcopy(part[path[-1]])
        else:
            part[path[-1]] = rng.choice(JUNK)
        return content

    return change


MANIFEST_KEYS = (
    "format",
    "format_version",
    "name",
    "labels",
    "thresholds",
    "calibration",
    "window",
    "languages",
    "forms",
    "files",
    "mapping",
)


def manifest_mutations() -> list[Mutation]:
    """Manifests: every key of every wrong type, and what is wrong in ways of its own."""
    found = [
        Mutation("manifest", f"{key} is {repr(value)[:30]} ({place})", _change_json(MANIFEST, _set((key,), value)))
        for key in MANIFEST_KEYS
        for place, value in enumerate(JUNK)
    ]
    one = {"method": "platt", "slope": 1.0, "intercept": 0.0}
    calibrators: list[Any] = [
        one | {"slope": value} for value in (1e300, 5e-324, 0, -1, float("nan"), True, "1", None, [1])
    ]
    calibrators += [one | {"intercept": value} for value in (1e300, -1e300, float("inf"), "0")]
    calibrators += [
        {"method": "isotonic", "knots": knots}
        for knots in (
            [[0, 0], [1e-320, 1e5]],
            [[-1e300, -1e300], [1e300, 1e300]],
            [[0, 0]] * 3,
            [[]],
            [[1, 2, 3]],
            "ab",
            {"a": "b"},
        )
    ]
    for place, calibrator in enumerate(calibrators):

        def calibrate(content: Any, _: random.Random, calibrator: Any = calibrator) -> Any:
            maps = dict.fromkeys(content["labels"], calibrator)
            return content | {"calibration": {"method": "per-label", "labels": maps}}

        found.append(Mutation("manifest", f"calibrator {place}", _change_json(MANIFEST, calibrate)))
    windows = [
        (8, 8),
        (0, 0),
        (3, 0),
        (4, 1),
        (5, 2),
        (64, 61),
        (64, 0),
        (1, 0),
        (2**40, 0),
        (32.0, 8),
        (True, False),
        ("32", 8),
        (32, -1),
        (32, None),
        (65, 3),
    ]
    for length, overlap in windows:
        window = {"length": length, "overlap": overlap, "pooling": "max"}
        found.append(
            Mutation("manifest", f"window {length} {overlap}", _change_json(MANIFEST, _set(("window",), window)))
        )
    found.append(Mutation("manifest", "pooling", _change_json(MANIFEST, _set(("window", "pooling"), "mean"))))
    names = [
        "../x",
        "/etc/passwd",
        "onnx/../../x",
        "a\x00b",
        "",
        ".",
        "..",
        "x" * 5000,
        "a//b",
        "./config.json",
        "C:\\x",
        "onnx",
        "moderation.json",
        "\ud800",
        "/dev/zero",
        "a/" * 400 + "b",
    ]
    for name in names:

        def add(content: Any, _: random.Random, name: str = name) -> Any:
            content["files"][name] = {"sha256": "0" * 64, "bytes": 0}
            return content

        found.append(Mutation("manifest", f"file {name[:20]!r}", _change_json(MANIFEST, add)))
    for key in MANIFEST_KEYS:
        found.append(
            Mutation("manifest", f"without {key}", _change_json(MANIFEST, lambda c, _, k=key: (c.pop(k, 0), c)[1]))
        )
    texts = {
        "twice": lambda text: text.replace('"name"', '"name": "other", "name"', 1),
        "deep": lambda text: text[:-1].rstrip().rstrip("}") + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "deep within bounds": lambda text: text.rstrip()[:-1] + ', "x": ' + "[" * 900 + "]" * 900 + "}",
        "digits": lambda text: text.rstrip()[:-1] + ', "x": ' + "9" * 6000 + "}",
        "huge": lambda text: text.rstrip()[:-1] + ', "x": "' + "9" * 20_000_000 + '"}',
        "list": lambda text: "[" + text + "]",
        "empty": lambda text: "",
        "mark": lambda text: "\ufeff" + text,
    }
    for name, alter in texts.items():
        found.append(
            Mutation("manifest", f"text {name}", _change_json(MANIFEST, lambda c, _, f=alter: f(json.dumps(c))))
        )
    return found


def _replace_step(pattern: Any, content: Any) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def tokenizer_mutations() -> list[Mutation]:
    """Tokenizers: every component of every other kind, steps that grow or run away, damaged tables, wrong ids."""
    file = "tokenizer.json"
    found = [
        Mutation("tokenizer", f"{key} is {repr(value)[:30]} ({place})", _change_json(file, _set((key,), value)))
        for key in (
            "normalizer",
            "pre_tokenizer",
            "post_processor",
            "model",
            "added_tokens",
            "truncation",
            "padding",
            "decoder",
        )
        for place, value in enumerate(JUNK)
    ]
    table = base64.b64encode(bytes([8, 0, 0, 0, 0, 4, 0, 0x80, 0xFF, 0xFF, 0xFF, 0x7F]) + b"a\0").decode()
    normalisers: dict[str, Any] = {
        "grows once": _replace_step({"String": "a"}, "a" * 4096),
        "grows in steps": [_replace_step({"String": "a"}, "a" * 60)] * 6,
        "grows by regex": [_replace_step({"Regex": "[a-z]"}, "ab" * 20)] * 8,
        "grows behind a letter": [
            _replace_step({"Regex": "(?<=r)."}, "i" * 50),
            *[_replace_step({"Regex": "i"}, "i" * 60)] * 8,
        ],
        "grows without a match": [_replace_step({"Regex": "x*"}, "xx")] * 40,
        "grows by case": [_replace_step({"Regex": "(?i)ffi"}, "\ufb03" * 3)] * 60,
        "grows by two": [_replace_step({"Regex": "[^z]"}, "ab")] * 60,
        "empty pattern": _replace_step({"String": ""}, "x"),
        "runs away": _replace_step({"Regex": "(a+)+$"}, ""),
        "runs away by choice": _replace_step({"Regex": "(a|a|aa)+b"}, ""),
        "runs away by letters": _replace_step({"Regex": "(?:[a-z ]*)*q!"}, ""),
        "runs away in steps": _replace_step({"Regex": r"\w*\w*\w*\w*\w*!!"}, ""),
        "runs away by reference": _replace_step({"Regex": r"(\w*)(\w*)\1\2!!"}, ""),
        "runs away ahead": _replace_step({"Regex": r"a(?=(\w+ ?)+!!)"}, ""),
        "runs away by counts": _replace_step({"Regex": r"(\w{0,9}){0,9}!!"}, ""),
        "runs away by recursion": _replace_step({"Regex": r"(?<x>a\g<x>?b?)!!"}, ""),
        "no pattern": _replace_step({"Regex": "("}, ""),
        "long pattern": _replace_step({"Regex": "a|" * 50_000}, ""),
        "deep pattern": _replace_step({"Regex": "(" * 5000 + ")" * 5000}, ""),
        "two patterns": _replace_step({"Regex": "a", "String": "b"}, ""),
        "empty table": {"type": "Precompiled", "precompiled_charsmap": ""},
        "short table": {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
        "table that leads away": {"type": "Precompiled", "precompiled_charsmap": table},
        "table that leads far away": {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="},
        "table of another size": {"type": "Precompiled", "precompiled_charsmap": "/////wAAAAA="},
        "no table": {"type": "Precompiled"},
        "bytes": {"type": "ByteLevel"},
        "bytes of bytes": [{"type": "ByteLevel"}] * 12,
        "unknown": {"type": "Evil"},
        "without a type": {"pattern": {"String": "a"}, "content": "b"},
        "many": [{"type": "NFKD"}] * 300,
        "prepend": [{"type": "Prepend", "prepend": "x" * 9000}],
        "nested": {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [{"type": "NFC"}]}]},
        "to nothing": _replace_step({"Regex": r"[\s\S]"}, ""),
        "to blanks": _replace_step({"Regex": r"[\s\S]"}, " "),
        "long but sound": [_replace_step({"String": "q"}, "w" * 50), {"type": "NFKD"}, {"type": "Lowercase"}],
    }
    for name, step in normalisers.items():
        value = {"type": "Sequence", "normalizers": step} if isinstance(step, list) else step
        found.append(Mutation("tokenizer", f"normaliser {name}", _change_json(file, _set(("normalizer",), value))))

        def after(content: Any, _: random.Random, value: Any = value) -> Any:
            steps = [value, content["normalizer"]] if content["normalizer"] else [value]
            return content | {"normalizer": {"type": "Sequence", "normalizers": steps}}

        found.append(Mutation("tokenizer", f"normaliser before: {name}", _change_json(file, after)))
    cutters: dict[str, Any] = {
        "of length 0": {"type": "FixedLength", "length": 0},
        "of length -1": {"type": "FixedLength", "length": -1},
        "of length 3": {"type": "FixedLength", "length": 3},
        "runs away": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
        "splits nothing": {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": False},
        "splits at nothing": {"type": "Split", "pattern": {"Regex": "a*"}, "behavior": "Isolated", "invert": True},
        "removes": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Removed", "invert": False},
        "behaves": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Evil", "invert": False},
        "bytes": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "bytes of bytes": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}] * 20,
        "blanks": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        "many blanks": [{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}] * 30,
        "long blank": {"type": "Metaspace", "replacement": "xx", "prepend_scheme": "always"},
        "unknown": {"type": "Evil"},
        "digits": {"type": "Digits", "individual_digits": True},
        "none": None,
    }
    for name, step in cutters.items():
        value = {"type": "Sequence", "pretokenizers": step} if isinstance(step, list) else step
        found.append(Mutation("tokenizer", f"cutter {name}", _change_json(file, _set(("pre_tokenizer",), value))))
    found += [Mutation("tokenizer", f"frame {name}", _change_json(file, change)) for name, change in _frames().items()]
    found += [
        Mutation("tokenizer", f"vocabulary {name}", _change_json(file, change))
        for name, change in _vocabularies().items()
    ]
    return found


def _frames() -> dict[str, Callable[[Any, random.Random], Any]]:
    def template(single: list[Any], tokens: dict[str, Any]) -> Callable[[Any, random.Random], Any]:
        value = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": tokens}
        return _set(("post_processor",), value)

    text = {"Sequence": {"id": "A", "type_id": 0}}
    cls = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    plain = {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}
    return {
        "without text": template([cls], plain),
        "text twice": template([text, text], plain),
        "text last": template([cls, text], plain),
        "second text": template([{"Sequence": {"id": "B", "type_id": 0}}], plain),
        "unknown token": template([cls, text], {}),
        "many ids": template([cls, text], {"[CLS]": {"id": "[CLS]", "ids": [2] * 5000, "tokens": ["x"] * 5000}}),
        "no ids": template([cls, text], {"[CLS]": {"id": "[CLS]", "ids": [], "tokens": []}}),
        "ids without tokens": template([cls, text], {"[CLS]": {"id": "[CLS]", "ids": [2, 3], "tokens": ["x"]}}),
        "large id": template([cls, text], {"[CLS]": {"id": "[CLS]", "ids": [10**6], "tokens": ["[CLS]"]}}),
        "negative id": template([cls, text], {"[CLS]": {"id": "[CLS]", "ids": [-1], "tokens": ["[CLS]"]}}),
        "id of 64 bits": template([cls, text], {"[CLS]": {"id": "[CLS]", "ids": [2**40], "tokens": ["[CLS]"]}}),
        "long": template([cls] * 3000 + [text], plain),
        "nearly full": template([cls] * 29 + [text], plain),
        "bert": _set(("post_processor",), {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}),
        "bert beyond": _set(
            ("post_processor",), {"type": "BertProcessing", "sep": ["[SEP]", 10**6], "cls": ["[CLS]", 2]}
        ),
        "bert without": _set(("post_processor",), {"type": "BertProcessing"}),
        "none": _set(("post_processor",), None),
        "bytes": _set(("post_processor",), {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}),
        "truncation": _set(
            ("truncation",), {"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
        ),
        "truncation of 0": _set(
            ("truncation",), {"max_length": 0, "strategy": "LongestFirst", "stride": 9, "direction": "Right"}
        ),
        "padding": _set(
            ("padding",),
            {
                "strategy": {"Fixed": 10**7},
                "direction": "Left",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            },
        ),
        "padding by 0": _set(
            ("padding",),
            {
                "strategy": "BatchLongest",
                "direction": "Left",
                "pad_to_multiple_of": 0,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            },
        ),
    }


def _vocabularies() -> dict[str, Callable[[Any, random.Random], Any]]:
    def model(**changes: Any) -> Callable[[Any, random.Random], Any]:
        def change(content: Any, _: random.Random) -> Any:
            content["model"] |= changes
            return content

        return change

    def ids(number: Callable[[int], Any]) -> Callable[[Any, random.Random], Any]:
        def change(content: Any, _: random.Random) -> Any:
            content["model"]["vocab"] = {token: number(place) for token, place in content["model"]["vocab"].items()}
            return content

        return change

    def added(**changes: Any) -> Callable[[Any, random.Random], Any]:
        token = {
            "id": 4,
            "content": "kind",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }

        def change(content: Any, _: random.Random) -> Any:
            content["added_tokens"] = [*content["added_tokens"], token | changes]
            return content

        return change

    def shuffle(content: Any, rng: random.Random) -> Any:
        vocabulary = content["model"]["vocab"]
        numbers = [*vocabulary.values()]
        rng.shuffle(numbers)
        content["model"]["vocab"] = dict(zip(vocabulary, numbers, strict=True))
        return content

    def twice(content: Any, _: random.Random) -> Any:
        return json.dumps(content).replace('"a": ', '"a": 3, "a": ', 1)

    unigram = [["<unk>", 0.0], ["a", -1.0], ["b", -2.0]]
    return {
        "shuffled": shuffle,
        "twice": twice,
        "ids beyond": ids(lambda place: place + 10**6),
        "ids one beyond": ids(lambda place: place + 1),
        "ids of 64 bits": ids(lambda place: 2**40 + place),
        "ids negative": ids(lambda place: -place),
        "ids of text": ids(str),
        "ids of float": ids(float),
        "ids all the same": ids(lambda _: 3),
        "empty": model(vocab={}),
        "list": model(vocab=[]),
        "no unknown": model(unk_token="nowhere"),
        "unknown is none": model(unk_token=None),
        "long words": model(max_input_chars_per_word=10**9),
        "no words": model(max_input_chars_per_word=0),
        "long prefix": model(continuing_subword_prefix="#" * 10**6),
        "empty prefix": model(continuing_subword_prefix=""),
        "word level": _set(("model",), {"type": "WordLevel", "vocab": {"[UNK]": 1, "a": 2}, "unk_token": "[UNK]"}),
        "word level without": _set(("model",), {"type": "WordLevel", "vocab": {"a": 2}, "unk_token": "[UNK]"}),
        "unigram": _set(("model",), {"type": "Unigram", "vocab": unigram, "unk_id": 0, "byte_fallback": False}),
        "unigram without unknown": _set(("model",), {"type": "Unigram", "vocab": unigram, "unk_id": None}),
        "unigram beyond": _set(("model",), {"type": "Unigram", "vocab": unigram, "unk_id": 9}),
        "unigram of nothing": _set(("model",), {"type": "Unigram", "vocab": [], "unk_id": None}),
        "unigram of empty": _set(("model",), {"type": "Unigram", "vocab": [["", 0.0], ["a", 1.0]], "unk_id": 0}),
        "unigram of NaN": _set(("model",), {"type": "Unigram", "vocab": [["a", float("nan")]], "unk_id": 0}),
        "unigram of large": _set(("model",), {"type": "Unigram", "vocab": [["a", 1e308], ["b", -1e308]], "unk_id": 0}),
        "pairs": _set(("model",), {"type": "BPE", "vocab": {"a": 1, "b": 2, "ab": 3}, "merges": [["a", "b"]]}),
        "pairs that are none": _set(("model",), {"type": "BPE", "vocab": {"a": 1}, "merges": [["a", "zz"]]}),
        "pairs of text": _set(("model",), {"type": "BPE", "vocab": {"a": 1}, "merges": ["a b c", 3]}),
        "pairs at random": _set(("model",), {"type": "BPE", "vocab": {"a": 1}, "merges": [], "dropout": 0.5}),
        "unknown kind": model(type="Evil"),
        "added": added(),
        "added empty": added(content=""),
        "added beyond": added(id=10**6),
        "added negative": added(id=-1),
        "added of another id": added(id=5, content="fine"),
        "added blank": added(content=" ", normalized=True),
        "added letter": added(content="e", single_word=True, lstrip=True, rstrip=True),
        "added long": added(content="x" * 10**6),
    }


def random_mutations(n: int) -> list[Mutation]:
    """Anything in any place of the manifest and of the tokenizer."""
    manifest = _change_json(MANIFEST, _anything_anywhere(MANIFEST_KEYS))
    parts = ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")
    tokenizer = _change_json("tokenizer.json", _anything_anywhere(parts))
    config = _change_json(
        "config.json",
        _anything_anywhere(
            ("id2label", "vocab_size", "pad_token_id", "label2id", "max_position_embeddings", "model_type")
        ),
    )
    changes = (("manifest", manifest), ("tokenizer", tokenizer), ("tokenizer", tokenizer), ("manifest", config))
    return [Mutation(kind, f"anything {place}", change) for place in range(n) for kind, change in [changes[place % 4]]]


def graph_mutations() -> list[Mutation]:
    """ONNX files: damaged bytes, other outputs, weights elsewhere, loops, operations of others, slow and large ones."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    file = "onnx/model.onnx"

    def damage(how: Callable[[bytearray, random.Random], bytes | bytearray]) -> Change:
        def apply(folder: Path, rng: random.Random) -> None:
            (folder / file).write_bytes(how(bytearray((folder / file).read_bytes()), rng))

        return apply

    def flip(n: int) -> Callable[[bytearray, random.Random], bytearray]:
        def change(content: bytearray, rng: random.Random) -> bytearray:
            for _ in range(n):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            return content

        return change

    def edit(change: Callable[[Any, random.Random, Path], Any]) -> Change:
        def apply(folder: Path, rng: random.Random) -> None:
            model = onnx.load(folder / file, load_external_data=False)
            model = change(model, rng, folder) or model
            (folder / file).write_bytes(model.SerializeToString())

        return apply

    def append(*operations: tuple[str, dict[str, Any]], kind: int = TensorProto.FLOAT, constants: Any = None) -> Change:
        """Lead the answer through other operations; those of names in `constants` read them too."""

        def change(model: Any, *_: Any) -> None:
            graph = model.graph
            last = "raw"
            for node in graph.node:
                node.output[:] = ["raw" if name == "logits" else name for name in node.output]
            for name, value in (constants or {}).items():
                graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
            for place, (operation, facts) in enumerate(operations):
                facts = dict(facts)
                inputs = [name or last for name in facts.pop("inputs", [""])]
                output = "logits" if place == len(operations) - 1 else f"step{place}"
                graph.node.append(helper.make_node(operation, inputs, [output], **facts))
                last = output
            graph.output[0].type.tensor_type.elem_type = kind
            graph.output[0].type.tensor_type.ClearField("shape")

        return edit(change)

    def external(location: str, *, write: bool, seal_it: bool = False) -> Change:
        def change(model: Any, _: random.Random, folder: Path) -> None:
            tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
            if write:
                target = folder / "onnx" / location
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(tensor.raw_data)
                if seal_it:
                    content = json.loads((folder / MANIFEST).read_text())
                    content["files"][f"onnx/{location}"] = {"sha256": "", "bytes": 0}
                    content["forms"]["onnx"]["files"].append(f"onnx/{location}")
                    (folder / MANIFEST).write_text(json.dumps(content))
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", location), ("offset", "0"), ("length", str(len(tensor.raw_data)))):
                entry = tensor.external_data.add()
                entry.key, entry.value = key, value
            tensor.ClearField("raw_data")

        return edit(change)

    def loop(model: Any, *_: Any) -> None:
        body = helper.make_graph(
            [helper.make_node("Identity", ["on"], ["on_out"]), helper.make_node("Identity", ["x"], ["x_out"])],
            "body",
            [
                helper.make_tensor_value_info(name, kind, [])
                for name, kind in (("i", TensorProto.INT64), ("on", TensorProto.BOOL))
            ]
            + [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
            [
                helper.make_tensor_value_info("on_out", TensorProto.BOOL, []),
                helper.make_tensor_value_info("x_out", TensorProto.FLOAT, None),
            ],
        )
        for node in model.graph.node:
            node.output[:] = ["raw" if name == "logits" else name for name in node.output]
        model.graph.initializer.append(numpy_helper.from_array(np.int64(2**62), "times"))
        model.graph.initializer.append(numpy_helper.from_array(np.bool_(True), "go"))
        model.graph.node.append(helper.make_node("Loop", ["times", "go", "raw"], ["logits"], body=body))

    def condition(model: Any, *_: Any) -> None:
        branch = helper.make_graph(
            [helper.make_node("Identity", ["raw"], ["y"])],
            "b",
            [],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        )
        for node in model.graph.node:
            node.output[:] = ["raw" if name == "logits" else name for name in node.output]
        model.graph.initializer.append(numpy_helper.from_array(np.bool_(True), "go"))
        model.graph.node.append(helper.make_node("If", ["go"], ["logits"], then_branch=branch, else_branch=branch))

    def functions(model: Any, *_: Any) -> None:
        model.functions.append(
            helper.make_function(
                "evil", "F", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], model.opset_import
            )
        )

    def exchange(model: Any, rng: random.Random, _: Path) -> None:
        node = rng.choice(model.graph.node)
        node.op_type = rng.choice(
            ["Add", "MatMul", "Relu", "Softmax", "Gather", "Exp", "Log", "Sqrt", "Concat", "Nope"]
        )

    def remove(model: Any, rng: random.Random, _: Path) -> None:
        del model.graph.node[rng.randrange(len(model.graph.node))]

    def reshape(model: Any, rng: random.Random, _: Path) -> None:
        tensor = rng.choice([one for one in model.graph.initializer if one.dims])
        tensor.dims[0] = rng.choice([0, -1, 1, 7, 2**40, 2**62])

    def fill(value: float) -> Callable[[Any, random.Random, Path], None]:
        def change(model: Any, rng: random.Random, _: Path) -> None:
            tensors = [
                one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT and len(one.raw_data) > 64
            ]
            tensor = rng.choice(tensors)
            tensor.raw_data = np.full(len(tensor.raw_data) // 4, value, dtype="<f4").tobytes()

        return change

    def rename(which: str) -> Callable[[Any, random.Random, Path], None]:
        def change(model: Any, *_: Any) -> None:
            getattr(model.graph, which)[0].name = "other"

        return change

    def slow(model: Any, *_: Any) -> None:
        for node in model.graph.node:
            node.output[:] = ["raw" if name == "logits" else name for name in node.output]
        big = numpy_helper.from_array(np.int64([1500, 1500]), "size")
        model.graph.initializer.append(big)
        add = model.graph.node.append
        add(helper.make_node("ReduceMax", ["raw"], ["top"], keepdims=0))
        add(helper.make_node("Expand", ["top", "size"], ["m0"]))
        for place in range(40):
            add(helper.make_node("MatMul", [f"m{place}", "m0"], [f"m{place + 1}"]))
        add(helper.make_node("ReduceMax", ["m40"], ["end"], keepdims=0))
        add(helper.make_node("Mul", ["end", "raw"], ["logits"]))

    def domain(name: str, operation: str) -> Callable[[Any, random.Random, Path], None]:
        def change(model: Any, *_: Any) -> None:
            model.opset_import.append(helper.make_opsetid(name, 1))
            for node in model.graph.node:
                node.output[:] = ["raw" if found == "logits" else found for found in node.output]
            facts = (
                {"embed_mode": 0, "ep_cache_context": "/etc/passwd", "main_context": 1}
                if operation == "EPContext"
                else {}
            )
            model.graph.node.append(helper.make_node(operation, ["raw"], ["logits"], domain=name, **facts))

        return change

    found = {
        "empty": damage(lambda *_: b""),
        "text": damage(lambda *_: b"no graph"),
        "zeros": damage(lambda content, _: bytes(len(content))),
        "cut": damage(lambda content, rng: content[: rng.randrange(len(content))]),
        "doubled": damage(lambda content, _: content + content),
        "junk behind": damage(lambda content, rng: content + rng.randbytes(100)),
        "deep": damage(lambda *_: _nested(3_000)),
        "five labels": append(
            ("Slice", {"inputs": ["", "from", "to", "axis"]}),
            constants={"from": np.int64([0]), "to": np.int64([5]), "axis": np.int64([1])},
        ),
        "one label": append(
            ("Slice", {"inputs": ["", "from", "to", "axis"]}),
            constants={"from": np.int64([0]), "to": np.int64([1]), "axis": np.int64([1])},
        ),
        "twelve labels": append(("Concat", {"inputs": ["", ""], "axis": 1})),
        "twelve rows": append(("Concat", {"inputs": ["", ""], "axis": 0})),
        "one number": append(("ReduceMax", {"keepdims": 0})),
        "more dimensions": append(("Unsqueeze", {"inputs": ["", "axis"]}), constants={"axis": np.int64([0])}),
        "doubles": append(("Cast", {"to": TensorProto.DOUBLE}), kind=TensorProto.DOUBLE),
        "halves": append(("Cast", {"to": TensorProto.FLOAT16}), kind=TensorProto.FLOAT16),
        "integers": append(("Cast", {"to": TensorProto.INT64}), kind=TensorProto.INT64),
        "texts": append(("Cast", {"to": TensorProto.STRING}), kind=TensorProto.STRING),
        "truths": append(("Cast", {"to": TensorProto.BOOL}), kind=TensorProto.BOOL),
        "NaN": append(("Mul", {"inputs": ["", "by"]}), constants={"by": np.float32("nan")}),
        "infinite": append(("Mul", {"inputs": ["", "by"]}), constants={"by": np.float32("inf")}),
        "huge": append(("Mul", {"inputs": ["", "by"]}), constants={"by": np.float32(1e38)}),
        "roots": append(("Sqrt", {})),
        "one row of many": append(("ReduceMean", {"axes": [0], "keepdims": 0})),
        "sequence": append(("SequenceConstruct", {})),
        "large": append(
            ("Expand", {"inputs": ["", "size"]}),
            ("ReduceMax", {"axes": [0, 1], "keepdims": 0}),
            constants={"size": np.int64([20_000, 20_000, 1, 6])},
        ),
        "slow": edit(slow),
        "loop": edit(loop),
        "condition": edit(condition),
        "functions": edit(functions),
        "other input": edit(rename("input")),
        "other output": edit(rename("output")),
        "no output": edit(lambda model, *_: model.graph.ClearField("output")),
        "no graph": edit(lambda model, *_: model.ClearField("graph")),
        "newer": edit(lambda model, *_: setattr(model, "ir_version", 99)),
        "newer operations": edit(lambda model, *_: setattr(model.opset_import[0], "version", 999)),
        "machine learning": edit(domain("ai.onnx.ml", "Binarizer")),
        "of somebody": edit(domain("evil", "Run")),
        "context": edit(domain("com.microsoft", "EPContext")),
        "weights beside": external("w.bin", write=True),
        "weights beside, sealed": external("w.bin", write=True, seal_it=True),
        "weights nowhere": external("w.bin", write=False),
        "weights above": external("../w.bin", write=True),
        "weights of the system": external("/etc/passwd", write=False),
        "weights in memory": external("*/_ORT_MEM_ADDR_/*", write=False),
        "weights in a device": external("../../../../../../dev/zero", write=False),
    }
    several: dict[str, Change] = {}
    for place in range(12):
        several[f"flipped {place}"] = damage(flip(1 + place))
        several[f"cut {place}"] = damage(lambda content, rng: content[: rng.randrange(len(content))])
        several[f"exchanged {place}"] = edit(exchange)
        several[f"removed {place}"] = edit(remove)
        several[f"reshaped {place}"] = edit(reshape)
    for value in (float("nan"), float("inf"), 1e38, 0.0):
        several[f"filled {value}"] = edit(fill(value))
    return [Mutation("graph", name, change) for name, change in (found | several).items()]


def _nested(depth: int) -> bytes:
    """An ONNX file of graphs within attributes within nodes within graphs."""

    def field(number: int, content: bytes) -> bytes:
        size, digits = len(content), b""
        while size >= 128:
            digits, size = digits + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + digits + bytes([size]) + content

    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


def file_mutations() -> list[Mutation]:
    """Files flipped, cut, missing, linked, or of another kind, without a new seal."""

    def of(name: str, how: str) -> Change:
        def apply(folder: Path, rng: random.Random) -> None:
            path = folder / name
            content = bytearray(path.read_bytes())
            path.unlink()
            if how == "flipped":
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
                path.write_bytes(content)
            elif how == "cut":
                path.write_bytes(content[: rng.randrange(len(content))])
            elif how == "linked to itself":
                path.symlink_to(path.name)
            elif how == "linked to the system":
                path.symlink_to("/dev/zero")
            elif how == "a folder":
                path.mkdir()

        return apply

    ways = ("flipped", "cut", "missing", "linked to itself", "linked to the system", "a folder")
    names = ("config.json", "tokenizer.json", "onnx/model.onnx", MANIFEST)
    return [Mutation("file", f"{name} {how}", of(name, how), sealed=False) for name in names for how in ways]


def added_things() -> list[Mutation]:
    """What lies in the folder and is not sealed: harmless to a classifier, and named by `verify`."""

    def beside(name: str, make: Callable[[Path], Any]) -> Change:
        def apply(folder: Path, _: random.Random) -> None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            make(folder / name)

        return apply

    things: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "file": ("notes.txt", lambda path: path.write_text("x")),
        "hidden file": (".hidden", lambda path: path.write_text("x")),
        "file deep": ("onnx/a/b/c.bin", lambda path: path.write_text("x")),
        "code": ("modeling.py", lambda path: path.write_text("raise SystemExit")),
        "adapter": ("adapter_config.json", lambda path: path.write_text("{}")),
        "empty folder": ("empty", Path.mkdir),
        "empty folder deep": ("onnx/empty", Path.mkdir),
        "link to a folder": ("etc", lambda path: path.symlink_to("/etc")),
        "link to a file": ("passwd", lambda path: path.symlink_to("/etc/passwd")),
        "link to nothing": ("nothing", lambda path: path.symlink_to("nowhere")),
        "link to itself": ("again", lambda path: path.symlink_to(".")),
    }
    return [Mutation("folder", name, beside(*thing), sealed=False) for name, thing in things.items()]


def openvino_mutations() -> list[Mutation]:
    """Graphs of OpenVINO: damaged, with loops, layers of others, a document type, without weights."""
    graph, weights = "openvino/model.xml", "openvino/model.bin"

    def text(change: Callable[[str, random.Random], str], name: str = graph) -> Change:
        def apply(folder: Path, rng: random.Random) -> None:
            content = (folder / name).read_bytes().decode("latin-1")
            (folder / name).write_bytes(change(content, rng).encode("latin-1"))

        return apply

    def flip(content: str, rng: random.Random) -> str:
        place = rng.randrange(len(content))
        return content[:place] + chr(ord(content[place]) ^ 1 << rng.randrange(7)) + content[place + 1 :]

    def number(content: str, rng: random.Random) -> str:
        found = rng.choice(list(re.finditer(r'"(\d+)"', content)))
        other = rng.choice(["-1", "0", "7", str(2**31), str(2**62), "x"])
        return f'{content[: found.start()]}"{other}"{content[found.end() :]}'

    def kind(content: str, rng: random.Random) -> str:
        found = rng.choice(list(re.finditer(r'type="(\w+)"', content)))
        other = rng.choice(["ReLU", "Concat", "MatMul", "Gather", "Nope", "Result", "Parameter", "Const"])
        return f'{content[: found.start()]}type="{other}"{content[found.end() :]}'

    def unlisted(folder: Path, _: random.Random) -> None:
        content = json.loads((folder / MANIFEST).read_text())
        content["forms"]["openvino"]["files"].remove(weights)
        (folder / MANIFEST).write_text(json.dumps(content))

    found: dict[str, Change] = {
        "loop": text(lambda content, _: content.replace('type="Result"', 'type="Loop"', 1)),
        "condition": text(lambda content, _: content.replace('type="SoftMax"', 'type="If"', 1)),
        "memory": text(lambda content, _: content.replace('type="SoftMax"', 'type="ReadValue"', 1)),
        "loop in small letters": text(lambda content, _: content.replace('type="Result"', 'type="loop"', 1)),
        "of somebody": text(lambda content, _: re.sub('version="opset[0-9]+"', 'version="evil"', content, count=1)),
        "document type": text(lambda content, _: content.replace("<net", "<!DOCTYPE net [<!ENTITY a 'b'>]><net", 1)),
        "empty": text(lambda *_: ""),
        "cut": text(lambda content, rng: content[: rng.randrange(len(content))]),
        "weights unlisted": unlisted,
        "weights cut": text(lambda content, rng: content[: rng.randrange(len(content))], weights),
        "weights empty": text(lambda *_: "", weights),
    }
    for place in range(20):
        found |= {f"flipped {place}": text(flip), f"number {place}": text(number), f"kind {place}": text(kind)}
    return [Mutation("openvino", name, change) for name, change in found.items()]
