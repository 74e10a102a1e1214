"""What a tokenizer.json may hold: that of real backbones, and nothing that hangs or crashes."""

import base64
import contextlib
import json
import random

import pytest
from tokenizers import Regex as Pattern
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from moderation.bundles import SHIPPED, TOKENIZER
from moderation.charsmap import compile_table, find_replacements, longest_replacement
from moderation.errors import ArtifactError
from moderation.inspection.tokenizer_files import BoundedTokenizer
from moderation.inspection.tokenizer_patterns import measure, read_pattern
from moderation.inspection.tokenizer_rules import check_tokenizer

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TABLE = {"\ufb03": "ffi", "\uff21": "A", "\u00a0": " ", "\ufdfa": "x" * 18}


def bert() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def roberta() -> Tokenizer:
    vocabulary = {
        token: place for place, token in enumerate(["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())])
    }
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def llama3(pattern: str) -> Tokenizer:
    tokenizer = roberta()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Pattern(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def xlm_roberta() -> Tokenizer:
    tokenizer = Tokenizer(
        models.Unigram([("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -1.0), ("a", -2.0)], 2)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(compile_table(TABLE)), normalizers.Replace(Pattern(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


def deberta() -> Tokenizer:
    tokenizer = xlm_roberta()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Strip(), normalizers.Precompiled(compile_table(TABLE)), normalizers.Replace(Pattern(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.Metaspace()])
    return tokenizer


def folded(tokenizer: Tokenizer) -> Tokenizer:
    """With the steps of `--fold-disguises`, those of the included model, before its own."""
    content = json.loads(tokenizer.to_str())
    steps = json.loads((SHIPPED / TOKENIZER).read_text(encoding="utf-8"))["normalizer"]["normalizers"][:-1]
    own = [content["normalizer"]] if content["normalizer"] else []
    content["normalizer"] = {"type": "Sequence", "normalizers": [*steps, *own]}
    return Tokenizer.from_str(json.dumps(content))


MAKERS = {
    "bert": bert,
    "roberta": roberta,
    "gpt2": lambda: llama3(GPT2),
    "llama3": lambda: llama3(LLAMA3),
    "o200k": lambda: llama3(O200K),
    "xlm-roberta": xlm_roberta,
    "deberta": deberta,
    "bert, folded": lambda: folded(bert()),
    "xlm-roberta, folded": lambda: folded(xlm_roberta()),
}
TEXT = (
    "A [SEP] \ufdfa\ufb03 <s>  br1ght  d\u00e4y\u0301 \U0001f600 \u4e2d\u6587\r\n" + "\ufdfa" * 50 + "i d i o t " * 20
)


@pytest.mark.parametrize("name", MAKERS)
def test_tokenizers_of_real_backbones_are_accepted_and_give_the_same_tokens(name, tmp_path):
    tokenizer = MAKERS[name]()
    tokenizer.save(str(tmp_path / TOKENIZER))
    bounded = BoundedTokenizer(tmp_path / TOKENIZER)
    assert bounded.encode(TEXT).ids == tokenizer.encode(TEXT, add_special_tokens=False).ids
    assert bounded.highest_id == max(tokenizer.get_vocab().values())


@pytest.mark.parametrize("pattern", [GPT2, LLAMA3, O200K, r" {2,}", r"\s+", r"(?<=[a-z])!(?=[a-z]{2})", r"(\p{L})\1+"])
def test_patterns_that_take_little_time_are_accepted(pattern):
    assert measure(pattern).once < 100_000


@pytest.mark.hostile("tokenizer: patterns that run away")
@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*)*b",
        "(a|a)*b",
        "(a|aa)+$",
        "(?:a?){60}b",
        "(?:a{0,30}){30}b",
        "a*a*a*a*b",
        r"(?=(\w+ ?)+!)a",
        r"(?<!x)(?:\w|\d)*!",
        "(?:(?:a|b)c?)+d",
        "a{0,60}" * 4 + "b",
        "(?>(a+)+)b",
        "((a{1,9}){1,9}){1,9}b",
        "(a|b){0,99999}" * 300,
        "a(|){100000}",
        "a(|){0,100000}" * 1_000,
        "a(){1000}" * 1_000,
    ],
)
def test_patterns_that_may_take_for_ever_are_refused(pattern):
    assert measure(pattern).once > 100_000


@pytest.mark.hostile("tokenizer: patterns that run away")
@pytest.mark.parametrize(
    "pattern",
    [r"(?<x>a\g<x>?)", r"\k<x>", "(?(1)a|b)", "(?~a)", "(*FAIL)", "(?{1})", "(?x) a", "a**", "a{2}{3}", "*a", "(", "a)",
     "[", "[]a]", "\\", r"\Q", r"(\w+)\1", "a{3,2}", "(|){999999}", "a{100001}", "a{0,100001}", r"\X",
     "(?:" * 30 + ")" * 30,
     "a{0000001}", "(?:a|aa){0000001,}", "a{,}", "a{2, 3}", "a{\u0662}", "a{", "a}", "a]", "a{2}+", "(?=a)b{1,2}*",
     r"\xF0\x9F\x98\x80", r"[\xC3\xA9]", r"\x4", r"\ud83d\ude00", r"\'", r"\`", r"\<", r"\R", r"\0", r"\012", r"[\1]",
     r"[a\b]", "a(?m)b|c", "a|(?i)b", "(?m)(?i)a", "(?m)*", "(?s)a", "(?ix:a)", "(?<1>a)", "[[:foo:]]", "[[:alpha]]"],
)  # fmt: skip
def test_patterns_that_are_not_known_are_refused(pattern):
    with pytest.raises(ValueError, match=r"\w"):
        measure(pattern)


@pytest.mark.hostile("tokenizer: damaged tables")
def test_a_damaged_table_is_refused_or_harmless(attack):
    """What is accepted, the library reads without a panic, and makes nothing longer than was said."""
    sound = compile_table(TABLE | {chr(place): chr(place - 32) for place in range(0xE0, 0xF0)})
    assert longest_replacement(sound) == 18
    rng = random.Random(11)
    texts = ["".join(map(chr, range(0x80, 0x180))), "".join(TABLE) + "plain", "\uff21\u0301"]
    n_taken = 0
    for _ in range(attack.cases(300, 20_000)):
        content = bytearray(sound)
        for _ in range(rng.choice([1, 1, 2, 8])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        content = content[: rng.choice([len(content), len(content), rng.randrange(len(content))])]
        attack.tried()
        try:
            longest = longest_replacement(bytes(content))
        except ValueError:
            continue
        n_taken += 1
        step = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}
        tokenizer = json.loads(xlm_roberta().to_str()) | {"normalizer": step}
        normaliser = Tokenizer.from_str(json.dumps(tokenizer)).normalizer
        for text in texts:
            assert len(normaliser.normalize_str(text)) <= max(1, longest) * len(text)
        of_ascii = [*find_replacements(bytes(content), of_ascii=True)]
        found = normaliser.normalize_str(SIGNS)
        assert len(found) <= max(1, *map(len, of_ascii), 1) * len(SIGNS)
        assert found.isascii() or not all(map(str.isascii, of_ascii))
    assert n_taken


@pytest.mark.hostile("tokenizer: texts that grow")
@pytest.mark.parametrize("content", ["ab" * 20, "x!" * 9])
def test_a_text_that_grows_without_end_ends_with_an_error(tmp_path, content):
    tokenizer = json.loads(bert().to_str())
    grow = {"type": "Replace", "pattern": {"Regex": "(?<=!)[ax]"}, "content": content}
    more = {"type": "Replace", "pattern": {"Regex": "[axb]"}, "content": "ab" * 30}
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [grow, {"type": "NFKD"}, *[more] * 9]}
    (tmp_path / TOKENIZER).write_text(json.dumps(tokenizer))
    bounded = BoundedTokenizer(tmp_path / TOKENIZER)
    assert bounded.encode("zzz").ids
    with pytest.raises(
        ArtifactError, match=r"tokenizer\.json: makes a text of 400 characters more than 24 times longer"
    ):
        bounded.encode("!a" * 200)


def replace(pattern, content="\u00e9" * 60, kind="Regex"):
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def precompiled(table):
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(compile_table(table)).decode()}


BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
SIGNS = "".join(map(chr, range(128))) + "\r\nssffifflstSSFFIst kKi'n" + "".join(map(chr, range(127, -1, -1)))
BEYOND_ASCII = [
    *("\u00e9", "(?i)\u00e9", "[\u00e9\u00e0]+", "\u00e9{2}", "(?<!a)(?:\u00e9|\u4e2d)a?(?!b)", "(?>\u00e9)"),
    *("a\u00e9", "(?i)[\u00e9\U0001f600]", "\u00e9\ufe0f?"),
]
MAYBE_ASCII = [
    *("(?i)\u017f", "(?i)[\u00e9\u212a]", "(?i)\u00df", "(?i)\ufb03", "\u00e9|e", "\u00e9?e", "[^\u00e9]", "."),
    *("[\u00e9-\u00ff]", "(?<=\u00e9)e", "\u00e9{2}?a", "\u00e9{0}a", "(?:\u00e9)*a"),
]
OF_ASCII = {
    True: [
        *map(replace, BEYOND_ASCII),
        *(replace("\u00e9", kind="String"), replace("a", "a" * 64), precompiled({"\u00e9": "e" * 40, "a": "aa"})),
        *({"type": kind} for kind in ("NFKD", "NFC", "Lowercase", "StripAccents", "Nmt")),
        *({"type": "Prepend", "prepend": "a"}, BERT | {"lowercase": True}),
    ],
    False: [
        *map(replace, MAYBE_ASCII),
        *(replace("e", kind="String"), precompiled({"a": "a" * 65}), precompiled({"a": "\u00e9"})),
        *({"type": "Prepend", "prepend": "\u2581"}, {"type": "ByteLevel"}),
    ],
}


@pytest.mark.parametrize("is_bounded", [True, False])
def test_steps_that_keep_an_ascii_text_short_are_recognised(is_bounded):
    for step in OF_ASCII[is_bounded]:
        content = json.loads(bert().to_str()) | {"normalizer": step}
        facts = check_tokenizer(json.dumps(content).encode())
        assert facts.is_bounded_for_ascii == is_bounded, step
        if is_bounded:
            found = Tokenizer.from_str(json.dumps(content)).normalizer.normalize_str(SIGNS)
            assert found.isascii() and len(found) <= 64 * len(SIGNS), step


@pytest.mark.hostile("tokenizer: texts that grow")
def test_patterns_that_supposedly_match_no_ascii_match_none(attack):
    """Patterns put together at random, in which letters beyond ASCII stand that fold to those of it."""
    rng = random.Random(5)
    letters = "\u00e9\u017f\u212a\u00df\ufb03\u0130\u01f0\u0345\u00b5\u4e2d\u1e9e\ufb06\u0149\U0001f600"
    atoms = [
        *letters,
        *"ask.^$",
        "st",
        r"\p{L}",
        r"\b",
        *(f"[{one}\u00e9]" for one in letters),
        "[a\u00e9]",
        "[^\u00e9]",
    ]
    groups = ["(?:", "(", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"]
    ends = [*["", "", "", ""], "?", "*", "+", "{2}", "{0}", "{0,2}", "{1,3}", "{2}?", "+?"]

    def pattern(depth):
        pieces = []
        for _ in range(rng.randint(1, 3)):
            inner = "|".join(pattern(depth - 1) for _ in range(rng.randint(1, 2))) if depth else ""
            pieces.append(rng.choice(groups) + inner + ")" if depth and rng.random() < 0.4 else rng.choice(atoms))
            pieces.append(rng.choice(ends))
        return "".join(pieces)

    def taken(pattern):
        with contextlib.suppress(Exception):  # of the library, which takes less than is read here
            cost = measure(pattern)
            return normalizers.Replace(Pattern(pattern), "\u2603") if cost.foreign and cost.once < 10_000 else None
        return None

    n_tried = 0
    while n_tried < attack.cases(200, 20_000):
        tried = rng.choice(["", "(?i)"]) + pattern(2)
        if step := taken(tried):
            assert step.normalize_str(SIGNS) == SIGNS, tried
            n_tried += 1
    attack.tried(n_tried)


NOTATION = [
    *"aabbfs1 -&:'#.^$|?*+{}[]()\\",
    *(
        "\u00e9",
        "\U0001f600",
        "\u0663",
        "{2}",
        "{0000001}",
        "{,}",
        "{,3}",
        "{1,2}",
        "{2,}",
        "{3}?",
        "+?",
        "*+",
        "(?:",
        "(?m)",
    ),
    *(
        "(?i)",
        "(?-m:",
        "(?i:",
        "(?=",
        "(?!",
        "(?<=",
        "(?<!",
        "(?>",
        "(?<n>",
        "(?#",
        "[^",
        "[a",
        "b]",
        "&&",
        "[:alpha:]",
        "[:",
    ),
    *(
        r"\x41",
        r"\xF0\x9F",
        r"\xC3\xA9",
        r"\x{e9}",
        r"\x{1f600}",
        r"\u0061",
        r"\ud83d",
        r"\1",
        r"\b",
        r"\B",
        r"\A",
        r"\z",
    ),
    *(
        r"\R",
        r"\X",
        r"\K",
        r"\'",
        r"\<",
        r"\d",
        r"\h",
        r"\p{L}",
        r"\P{^Lu}",
        r"\n",
        r"\s",
        r"\W",
        r"\0",
        r"\8",
        r"\]",
        r"\-",
    ),
]


@pytest.mark.hostile("tokenizer: texts that grow")
def test_no_match_is_narrower_than_what_is_read(attack):
    """Notation put together at random: what is accepted, the library's Oniguruma reads in the same way."""
    seed = 23
    rng = random.Random(seed)

    def pattern(depth):
        pieces = []
        for _ in range(rng.randint(1, 4)):
            if depth and rng.random() < 0.4:
                inner = "|".join(pattern(depth - 1) for _ in range(rng.randint(1, 2)))
                pieces.append(rng.choice(["(?:", "(", "(?>", "(?i:", "(?-i:", "(?=", "(?<!", "(?m)("]) + inner + ")")
            else:
                pieces.append(rng.choice(NOTATION))
            pieces.append(rng.choice(["", "", "", "?", "+", "{2}", "{1,3}", "{,2}", "{2}?", "*?"]))
        return "".join(pieces)

    n_tried = 0
    for _ in range(attack.cases(12_000, 2_000_000)):
        tried = pattern(2) if rng.random() < 0.5 else "".join(rng.choices(NOTATION, k=rng.randint(1, 9)))
        try:
            cost, is_open = read_pattern(tried)
            split = pre_tokenizers.Split(Pattern(tried), "removed", invert=True)
        except Exception:  # refused here, or by the library
            continue
        if not cost.width or cost.once > 10_000:
            continue
        is_folded = "(?i" in tried  # one letter may stand for three, and the other way about
        text = "aabb\u00e9ffss\U0001f600'{2}a]" + "".join(
            rng.choices("aabbfs1 -&:{}^]\u00e9\U0001f600\ufb03\n\u0663", k=60)
        )
        for found, _ in split.pre_tokenize_str(text):
            width = max(1, cost.width // 3) if is_folded else cost.width
            assert width <= len(found), (seed, tried, cost, found)
            assert is_open or is_folded or len(found) <= cost.longest, (seed, tried, cost, found)
        n_tried += 1
    assert n_tried > 500
    attack.tried(n_tried)


@pytest.mark.parametrize("name", ["included", "bert, folded"])
def test_texts_of_ascii_are_not_normalised_twice(name, tmp_path, monkeypatch):
    path = SHIPPED / TOKENIZER
    if name != "included":
        path = tmp_path / TOKENIZER
        MAKERS[name]().save(str(path))
    bounded, seen = BoundedTokenizer(path), []
    monkeypatch.setattr(bounded._limits._growth, "hold_for", lambda text, *, in_pieces: seen.append(text) or True)
    assert bounded.encode("You are an 1d10t!").ids and bounded.normalise("a\r\n") and bounded.encode("\u00e9").ids
    assert seen == ["\u00e9"]


@pytest.mark.hostile("tokenizer: patterns that run away")
def test_many_patterns_that_grow_with_the_text_do_not_take_a_long_word(tmp_path):
    tokenizer = json.loads(bert().to_str())
    step = {"type": "Replace", "pattern": {"Regex": "[a-z]*!"}, "content": ""}
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [step] * 60}
    (tmp_path / TOKENIZER).write_text(json.dumps(tokenizer))
    bounded = BoundedTokenizer(tmp_path / TOKENIZER)
    assert bounded.encode("a" * 500).ids
    with pytest.raises(ArtifactError, match="its 60 patterns may take too long for a word of 50,000"):
        bounded.encode("a" * 50_000)
    shipped = BoundedTokenizer(SHIPPED / TOKENIZER)
    assert shipped.encode("a" * 50_000).ids


@pytest.mark.hostile("tokenizer: texts that grow")
@pytest.mark.parametrize(
    "growth", [[replace("x", "y" * 64, "String")], [replace("y", "x" * 60), replace("x", "y" * 60)]]
)
@pytest.mark.parametrize("n_before", [1, 60])
def test_a_prefix_of_each_piece_is_counted_for_each(tmp_path, growth, n_before):
    """Pieces of a letter each, between tokens at which a text is taken apart before it is normalised."""
    tokenizer = json.loads(bert().to_str())
    steps = [*[{"type": "Prepend", "prepend": "x" * 8}] * n_before, *growth]
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": steps}
    token = {"id": 3, "content": "b", "single_word": False, "lstrip": False, "rstrip": False, "special": True}
    tokenizer["added_tokens"] = [token | {"normalized": False}]
    (tmp_path / TOKENIZER).write_text(json.dumps(tokenizer))
    bounded = BoundedTokenizer(tmp_path / TOKENIZER)
    for text in ("bc" * 200, "c" + "b" * 200 + "c" * 3 + "bc" * 100):
        with pytest.raises(ArtifactError, match=r"more than 24 times longer"):
            bounded.encode(text)
    with pytest.raises(ArtifactError, match=r"more than 24 times longer"):
        bounded.normalise("c") and bounded.normalise("x" * 40)


@pytest.mark.hostile("tokenizer: texts that grow")
def test_a_separating_token_still_grows_in_an_unseparated_text(tmp_path):
    tokenizer = json.loads(bert().to_str())
    steps = [replace("b", "bb" * 30, "String")] * 4
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": steps}
    token = {"id": 3, "content": "b", "single_word": False, "lstrip": False, "rstrip": False, "special": True}
    tokenizer["added_tokens"] = [token | {"normalized": False}]
    (tmp_path / TOKENIZER).write_text(json.dumps(tokenizer))
    bounded = BoundedTokenizer(tmp_path / TOKENIZER)
    assert bounded.encode("b" * 40).ids
    with pytest.raises(ArtifactError, match=r"more than 24 times longer"):
        bounded.normalise("b" * 40)


@pytest.mark.hostile("tokenizer: texts that grow")
def test_a_token_that_grows_when_the_file_is_opened_is_refused(tmp_path):
    tokenizer = json.loads(bert().to_str())
    grow = {"type": "Replace", "pattern": {"String": "q"}, "content": "q" * 60}
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [grow] * 9}
    token = {"id": 3, "content": "a", "single_word": False, "lstrip": False, "rstrip": False, "special": False}
    tokenizer["added_tokens"] = [token | {"content": "qq", "normalized": True}]
    (tmp_path / TOKENIZER).write_text(json.dumps(tokenizer))
    with pytest.raises(ArtifactError, match="makes a text of 2 characters"):
        BoundedTokenizer(tmp_path / TOKENIZER)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"normalizer": {"type": "Evil"}}, "a step of the unknown kind 'Evil'"),
        ({"model": {"type": "WordPiece", "vocab": {"a": -1}}}, "tokens with their ids"),
        ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "FixedLength.length"),
        ({"added_tokens": [{"id": 0, "content": ""}]}, "an empty text"),
        ({"post_processor": {"type": "BertProcessing"}}, "expected sep and cls"),
    ],
)
def test_the_message_says_which_part_is_wrong(changes, words):
    content = json.loads(bert().to_str()) | changes
    with pytest.raises(ValueError, match=words):
        check_tokenizer(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(a", "a group without an end$"),
        ("(?#b)", r"begins with \(\?#, which is not supported$"),
        ("\\K", "not supported$"),
    ],
)
def test_only_unknown_notation_is_reported_as_unknown(pattern, words):
    step = {"type": "Replace", "pattern": {"Regex": pattern}, "content": "x"}
    content = json.loads(bert().to_str()) | {"normalizer": step}
    with pytest.raises(ValueError, match=words):
        check_tokenizer(json.dumps(content).encode())


def test_an_unknown_kind_is_shortened_and_escaped():
    content = json.loads(bert().to_str()) | {"normalizer": {"type": "\x1b[2J" + "x" * 5_000}}
    with pytest.raises(ValueError, match="unknown kind") as caught:
        check_tokenizer(json.dumps(content).encode())
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


def vocabulary_of(kind: str, tokens: list[str]) -> bytes:
    content = json.loads(bert().to_str())
    if kind == "Unigram":
        content["model"] = {"type": kind, "vocab": [[token, -1.0] for token in tokens], "unk_id": 0}
    elif kind == "added":
        content["added_tokens"] = [
            {"id": place + 4, "content": token, "normalized": False} for place, token in enumerate(tokens)
        ]
    else:
        content["model"]["vocab"] |= {token: place + 4 for place, token in enumerate(tokens)}
    return json.dumps(content).encode()


@pytest.mark.hostile("bundle: tokenizer of a large size")
@pytest.mark.parametrize("kind", ["Unigram", "WordPiece", "added"])
def test_a_vocabulary_whose_tokens_are_long_or_very_many_is_refused(kind, attack, monkeypatch):
    check_tokenizer(vocabulary_of(kind, ["b", "\u2581" * 340, "\ud83d"]))
    with pytest.raises(ValueError, match=r"a token of 1,025 bytes|expected a text of at most"):
        check_tokenizer(vocabulary_of(kind, ["b", "x" * 1_025]))
    most = {"Unigram": "_MOST_OF_UNIGRAM", "WordPiece": "_MOST_OF_TOKENS", "added": "_MOST_OF_ADDED"}[kind]
    monkeypatch.setattr(f"moderation.inspection.tokenizer_rules.{most}", 100_000)
    with pytest.raises(ValueError, match="bytes together, expected 100,000 at most"):
        check_tokenizer(vocabulary_of(kind, [f"{place:0500}" for place in range(201)]))
    attack.tried(2)


@pytest.mark.hostile("bundle: tokenizer of a large size")
def test_very_many_added_tokens_are_refused():
    with pytest.raises(ValueError, match="20,000 at most"):
        check_tokenizer(vocabulary_of("added", [str(place) for place in range(20_001)]))


@pytest.mark.hostile("bundle: tokenizer of a large size")
def test_a_table_of_characters_far_larger_than_usual_ones_is_refused():
    n_bytes = 4 * ((1 << 18) + 1)
    with pytest.raises(ValueError, match="far larger"):
        longest_replacement(n_bytes.to_bytes(4, "little") + bytes(n_bytes))


def test_a_table_is_read_the_same_in_slices_of_any_size(monkeypatch):
    table = compile_table({chr(place): chr(place + 1) * (1 + place % 5) for place in range(0x4E00, 0x5200)})
    found = {longest_replacement(table)}
    for size in (1, 7):
        monkeypatch.setattr("moderation.charsmap._AT_ONCE", size)
        found.add(longest_replacement(table))
    assert found == {5}
