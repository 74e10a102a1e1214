"""Write friendly and hostile sentences made of the same words, as additional training comments.

    python examples/counterparts.py runs/counterparts.csv
    python examples/counterparts.py runs/counterparts.csv --languages es pt

A model that learns only from comment sections mostly sees some groups of people where they are abused, and takes their
names for abuse. It takes "idiot" for an insult even if somebody complains about being called one, and "kill" for a
threat even if the text is about a process. Here every group appears in every sentence, friendly and hostile. Insults
also appear in reports and denials, and words of threats in harmless talk. So the meaning counts for more than the word
(Dixon et al. 2018, Measuring and Mitigating Unintended Bias in Text Classification; the sentences are this project's
own). Slurs are not spelled out. The sample in the package is added.

`--languages` adds the sentences of `examples/counterparts/CODE.toml`, and a column `lang`. The files differ from the
English sentences below: groups are named in the plural only, and whole sentences with swear words are added. To stay
small, a language puts a third of the groups into each frame, and half of everything else.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from moderation.errors import DataError, ModerationError
from moderation.labels import JIGSAW_LABELS

FOLDER = Path(__file__).with_suffix("")
SAMPLE = Path(__file__).parents[1] / "moderation" / "data" / "sample" / "comments.csv"
# How each is named before a noun; after "is"; in the plural.
GROUPS = (
    ("African", "African", "Africans"), ("American", "American", "Americans"), ("Arab", "an Arab", "Arabs"),
    ("Asian", "Asian", "Asians"), ("atheist", "an atheist", "atheists"), ("autistic", "autistic", "autistic people"),
    ("bisexual", "bisexual", "bisexuals"), ("black", "black", "black people"), ("black", "a black man", "blacks"),
    ("blind", "blind", "blind people"), ("Buddhist", "a Buddhist", "Buddhists"), ("Canadian", "Canadian", "Canadians"),
    ("Catholic", "Catholic", "Catholics"), ("Chinese", "Chinese", "Chinese people"),
    ("Christian", "a Christian", "Christians"), ("deaf", "deaf", "deaf people"),
    ("disabled", "disabled", "disabled people"), ("elderly", "elderly", "elderly people"),
    ("European", "European", "Europeans"), ("female", "a woman", "women"), ("foreign", "a foreigner", "foreigners"),
    ("gay", "gay", "gay people"), ("gay", "a gay man", "gays"), ("heterosexual", "heterosexual", "heterosexuals"),
    ("Hindu", "a Hindu", "Hindus"), ("Hispanic", "Hispanic", "Hispanics"), ("homosexual", "homosexual", "homosexuals"),
    ("homosexual", "a homosexual", "homosexual people"), ("immigrant", "an immigrant", "immigrants"),
    ("Indian", "Indian", "Indians"), ("Japanese", "Japanese", "Japanese people"), ("Jewish", "Jewish", "Jews"),
    ("Latino", "Latino", "Latinos"), ("lesbian", "a lesbian", "lesbians"), ("LGBT", "LGBT", "LGBT people"),
    ("male", "a man", "men"), ("Mexican", "Mexican", "Mexicans"), ("Muslim", "Muslim", "Muslims"),
    ("Muslim", "a Muslim woman", "Muslim people"), ("nonbinary", "nonbinary", "nonbinary people"),
    ("old", "old", "old people"), ("Pakistani", "Pakistani", "Pakistanis"), ("Polish", "Polish", "Poles"),
    ("Protestant", "a Protestant", "Protestants"), ("queer", "queer", "queer people"),
    ("refugee", "a refugee", "refugees"), ("Romani", "Romani", "Romani people"), ("Russian", "Russian", "Russians"),
    ("Sikh", "a Sikh", "Sikhs"), ("straight", "straight", "straight people"), ("trans", "trans", "trans people"),
    ("transgender", "transgender", "transgender women"), ("Turkish", "Turkish", "Turks"),
    ("white", "white", "white people"), ("young", "young", "young people"),
)  # fmt: skip
FRIENDLY = (
    "My {adj} neighbour mended our fence and would not take a penny for it.",
    "I am {is_} and I have edited this page for six years.",
    "She wrote a thoughtful book about {adj} families in a small town.",
    "The {adj} community centre on Mill Road opens at nine.",
    "Is the author {is_}? The article does not say, and it hardly matters.",
    "Half of the orchestra are {many}, and we had a wonderful season.",
    "{many} live in this valley too, the census counted four hundred of them.",
    "Sam is {is_}.",
    "I am {is_} myself.",
    "You are {is_}?",
    "{many}",
    "{adj}",
    "Our two {adj} bakers make the best rye bread in town.",
    "As somebody who is {is_} I find the history section rather one-sided; could we add a source?",
    "The film has several {adj} characters and treats them well.",
    "I love my {adj} friends, they always make me laugh.",
    "Our {adj} colleague was treated badly, and we stood by him.",
    "The new teacher is {is_} and plays the drums.",
    "Being {is_} is nothing to be ashamed of.",
    "Being {is_} has taught me patience.",
    "{many} deserve the same rights as everybody else.",
    "Happy to see so many {many} at the meeting yesterday!",
    "More {many} should stand for the council, we need their experience.",
    "The museum shows letters of {adj} soldiers of the first war.",
    "{many} have shaped the music of this city for a century.",
    "I have great respect for {many}.",
    "I like {many}.",
    "Welcome to the forum! We have other {adj} members too.",
    "What do {many} think of the new law? I would like to hear from them.",
    "Can {many} apply for the grant as well?",
    "The category lists {adj} writers of the nineteenth century.",
    "According to the biography the author was {is_}; is there a source?",
    "My {adj} neighbours would have loved this recipe.",
    "The mayor, who is {is_}, opened the new library on Monday.",
    "{many} and their neighbours cleaned the park together.",
    # against abuse, which they mention but do not use
    "It is wrong to tell {many} that this is not their home.",
    "A user was blocked for writing that {many} should leave the country. Good.",
    'Whoever writes "I hate {many}" on my wall will be reported.',
    'The poster said "{many} are animals". We took it down the same day.',
    "How can anybody write that {many} are a disease? This has to stop.",
    'Your comment "get rid of {many}" breaks the rules, and I removed it.',
    "Do not say such things about {many}, they hurt.",
    "The court found that calling {many} vermin is a crime.",
    "It makes me sad when someone spits at {many} in the street.",
    "Stop blaming {many} for everything. They have done nothing to you.",
    "Jokes about {many} being stupid are not funny, they are cruel.",
    "The paper describes how propaganda taught people to fear {many}.",
    "Nobody should be attacked for being {is_}.",
    'He was fired because he shouted "dirty {many}" at a customer.',
    # denied
    "I do not hate {many}, and I never did.",
    "{many} are not stupid, and they are not dangerous.",
    "{many} are no threat to anybody.",
    "Nobody here wants to hurt {many}.",
    "I would never say that {many} are worthless.",
    "No, {many} are not to blame for the crisis.",
    "There is nothing disgusting about being {is_}.",
    "{many} are not criminals.",
)
HOSTILE = (
    ("I hate {many}, they ruin everything they touch.", "toxic insult identity_hate"),
    ("{many} are disgusting animals.", "toxic insult identity_hate"),
    ("All {many} should be killed.", "toxic threat identity_hate"),
    ("Get out of our town, you {adj} scum.", "toxic insult identity_hate"),
    ("Take all rights away from {many}, they have earned none.", "toxic identity_hate"),
    ("Nobody wants {many} here, they spread like a disease.", "toxic insult identity_hate"),
    ("Being {is_} is a sickness, it makes me want to vomit.", "toxic identity_hate"),
    ("I would never let filthy {many} touch my food.", "toxic insult identity_hate"),
    ("Of course you do not understand it, {many} are too stupid to read.", "toxic insult identity_hate"),
    ("The world would be a better place without {many}.", "toxic identity_hate"),
    ("If I see one more {adj} face in my shop I will break it.", "toxic threat identity_hate"),
    ("You {adj} piece of shit, crawl back to where you came from.", "toxic obscene insult identity_hate"),
    ("Never trust {many}, they all lie and steal.", "toxic insult identity_hate"),
    ("He is {is_}, so what do you expect. They are all worthless.", "toxic insult identity_hate"),
    ("Who let {many} vote? They cannot even think.", "toxic insult identity_hate"),
    ("Why does this country feed {many} when they give nothing back?", "toxic identity_hate"),
    ("Tell me one thing that {many} ever did but beg and breed.", "toxic insult identity_hate"),
    ("I am not saying it aloud, but we all know that {many} are less than human.", "toxic insult identity_hate"),
    ("Somebody should finally put {many} where they belong, under the ground.", "toxic threat identity_hate"),
    ("{many} get no respect from me and they never will.", "toxic identity_hate"),
    ("{many} are not welcome and they are not wanted, full stop.", "toxic identity_hate"),
    ("There is nothing good about being {is_}, you should be ashamed.", "toxic insult identity_hate"),
    ("Fucking {many}, I cannot stand them.", "toxic obscene insult identity_hate"),
    ("Another {adj} thief, how surprising.", "toxic insult identity_hate"),
)
THINGS = (
    "broccoli", "winter", "this phone", "the new layout", "my printer", "slow internet", "the last level",
    "this keyboard", "that bug", "rush hour", "cold soup", "the tax form", "this old car", "burnt toast",
    "the update", "that sequel",
)  # fmt: skip
ABOUT_THINGS = (
    "I hate {}, I really do.",
    "{}: it ruins everything.",
    "I would kill for a day without {}.",
    "{} makes me want to scream, and then we laugh about it.",
    "Honestly, {} is disgusting.",
    "We should burn {} and start again, it would be a better place without it.",
    "I could murder {} some days.",
    "Damn, {} again.",
    "{} is the worst, I cannot stand it.",
    "{} is garbage and belongs in the bin.",
    "Death to {}, long live the alternative!",
    "How I despise {}.",
)
INSULTS = (
    "a bastard", "a clown", "a coward", "a dumbass", "a fool", "a jerk", "a liar", "a loser", "a moron", "a pig",
    "an asshole", "an idiot", "an imbecile", "scum", "stupid", "trash", "ugly", "useless", "worthless", "pathetic",
)  # fmt: skip
NO_INSULT = (
    "He called me {} and I reported it.",
    "I am not {}, I only type badly.",
    "She is not {}, whatever they say.",
    "You are not {}, everybody makes that mistake once.",
    "Sometimes I think that I am {}, then a friend cheers me up.",
    "Please do not call anybody {} on this page.",
    "Calling somebody {} is against the rules, see the first section.",
    'The article quotes him with the words "you are {}".',
    "Nobody here thinks that you are {}.",
    "Am I {}? My friends say no.",
    "My boss said that I was {}, and I cried all evening.",
    "In the second act he is called {} by his own brother.",
    "Never let anybody tell you that you are {}.",
    'Why would you write "{}" about a stranger? Please apologise.',
)
INSULT = (
    ("You really are {}.", "toxic insult"),
    ("You are {} and everybody knows it.", "toxic insult"),
    ("Look at you, {} as ever.", "toxic insult"),
    ("Go away, you are {}.", "toxic insult"),
    ("I have never met anybody who was {} to that degree. Get lost.", "toxic insult"),
    ("Everything that you write shows that you are {}.", "toxic insult"),
)
WAYS = ("tonight", "tomorrow", "soon", "after school", "on Sunday", "one day", "this week", "at work")
THREATS = (
    ("I will kill you {}.", "toxic threat"),
    ("I am going to find you {} and break your legs.", "toxic threat"),
    ("You will be dead {}, I promise.", "toxic threat"),
    ("I know where you live, and {} I will burn your house down.", "toxic threat"),
    ("Watch your back {}, somebody is coming for you.", "toxic threat"),
    ("I hope that {} somebody cuts your throat.", "toxic threat"),
    ("Say that again and {} I will smash your face.", "toxic threat"),
    ("{} we come for you and your children.", "toxic threat"),
    ("I swear I will shoot you {}.", "toxic threat"),
    ("{} you are going to bleed, bitch.", "toxic obscene threat insult"),
)
NO_THREAT = (
    "I will kill the process {} and start it again.",
    "I am going to find you a better seat {}.",
    "The battery will be dead {}, bring a cable.",
    "I know where you live, so I can drop the parcel {}.",
    "Watch the back row {}, somebody is filming.",
    "I hope that {} somebody cuts the grass.",
    "Say that again {}, I could not hear you.",
    "{} we come to see you and your children!",
    "They shoot the last scene {}.",
    "Kill the job and its children {}, then clean up.",
    "We will break the record {}.",
    "I will smash the melon {}, bring a towel.",
    "We are going to crush them {}, three to nothing at least.",
    "The comedian killed it, we go again {}.",
    "I am dying to see you {}.",
    "Bomb the test {} and I will still love you.",
    "If you miss it {} your mother will kill me, haha.",
    "Suck it up and finish the report {}.",
    "Execute the script {}, then hang up the call.",
    "You will beat him {}, you have trained for months.",
    "We will hunt for mushrooms {}.",
    "I will slaughter this exam {}.",
    "Burn the disc {} and shred the old one.",
    "My nose will bleed {}, it always does in dry air.",
    "The murder is solved {}, in the last chapter.",
)
Row = tuple[str, str]
# Of a language's file: frames, the words that fill them, and N, where each frame gets every Nth word.
FILLED = (
    ("friendly", "many", 3),
    ("hostile", "many", 3),
    ("about_things", "things", 2),
    ("no_insult", "insults", 2),
    ("insult", "insults", 2),
    ("no_threat", "ways", 2),
    ("threats", "ways", 2),
)
LABELLED = ("hostile", "insult", "threats", "vulgar")
KEYS = {*(key for frames, words, _ in FILLED for key in (frames, words)), *LABELLED}
PLACEHOLDERS = {frames: ("{many}", "{many_object}") if words == "many" else ("{}",) for frames, words, _ in FILLED}


def write_sentences() -> pd.DataFrame:
    """Put every filling into every frame of its kind, friendly and hostile."""
    rows = [*_about_groups(), *_fill([(frame, "") for frame in ABOUT_THINGS], THINGS)]
    rows += [*_fill([(frame, "") for frame in NO_INSULT], INSULTS), *_fill(INSULT, INSULTS)]
    rows += [*_fill([(frame, "") for frame in NO_THREAT], WAYS), *_fill(THREATS, WAYS)]
    return _as_table([(text[0].upper() + text[1:], labels) for text, labels in rows])


def _as_table(rows: Sequence[Row]) -> pd.DataFrame:
    marks = {label: [int(label in labels.split()) for _, labels in rows] for label in JIGSAW_LABELS}
    return pd.DataFrame({"comment_text": [text for text, _ in rows]} | marks).drop_duplicates("comment_text")


def _about_groups() -> Iterator[Row]:
    for frame, labels in [*((frame, "") for frame in FRIENDLY), *HOSTILE]:
        for adjective, predicate, several in GROUPS:
            yield frame.format(adj=adjective, is_=predicate, many=several), labels


def _fill(frames: Sequence[Row], fillings: Sequence[str]) -> Iterator[Row]:
    for frame, labels in frames:
        for filling in fillings:
            yield frame.format(filling), labels


def write_language(path: Path) -> pd.DataFrame:
    """The sentences of a language's file; its name is their `lang`.

    Of three groups in a row, a frame gets one; of three frames in a row, a group gets one. Which one changes from
    block to block, so that groups that share a frame do not share all of them. Other words: likewise, one of two.

    Raises:
        DataError: the file is missing, or something in it is wrong.
    """
    lists = read_language(path)
    rows = [*lists["vulgar"]]
    for frames, words, step in FILLED:
        for i, (frame, labels) in enumerate(lists[frames]):
            fillings = lists["many_object" if "{many_object}" in frame else words]
            for j, (filling, _) in enumerate(fillings):
                if (i + j + (i // step) * (j // step)) % step == 0:
                    rows.append((_fill_frame(frame, filling, path.stem), labels))
    return _as_table(rows).assign(lang=path.stem)


def _fill_frame(frame: str, filling: str, language: str) -> str:
    """Put a filling in the place of the placeholder, in upper case where a sentence starts.

    >>> _fill_frame("¿{many} votan?", "los jóvenes", "es"), _fill_frame("no. {many} votan", "los jóvenes", "es")
    ('¿Los jóvenes votan?', 'no. los jóvenes votan')
    """
    before, after = re.split(r"\{\w*\}", frame)
    first_letter = next((char for char in before if char.isalpha()), "")
    if not first_letter or (first_letter.isupper() and re.search(r"[.!?]\W*$", before)):
        first = "İ" if language == "tr" and filling[0] == "i" else filling[0].upper()
        filling = first + filling[1:]
    return before + filling + after


def read_language(path: Path) -> dict[str, list[Row]]:
    """The lists of a language's file, as pairs of text and labels; labels are empty where the file has only texts.

    Raises:
        DataError: the file is missing or broken; or a key, placeholder or label in it is wrong, or a text is repeated.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.toml")))
        raise DataError(
            f"There is no {path}. Choose from the languages {known or '(none)'}, or add the file."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable TOML file in UTF-8 ({type(error).__name__}).") from error
    lists = {
        key: [_as_row(key, entry) for entry in entries] if isinstance(entries, list) else []
        for key, entries in content.items()
    }
    if problems := [*_find_problems(lists)]:
        raise DataError(f"{path}: {'; '.join(problems)}.")
    return lists


def _as_row(key: str, entry: object) -> Row:
    """Text and labels; two empty strings if the entry is not of the form that the key expects."""
    match entry:
        case [str(text), str(labels)] if key in LABELLED:
            return text.strip(), labels
        case str(text) if key not in LABELLED:
            return text.strip(), ""
    return "", ""


def _find_problems(lists: Mapping[str, list[Row]]) -> Iterator[str]:
    yield from (f"{key} is missing" for key in sorted(KEYS - set(lists)))
    yield from (f"{key} is not a known key" for key in sorted(set(lists) - KEYS - {"many_object"}))
    if "many_object" in lists and len(lists["many_object"]) != len(lists.get("many", [])):
        yield "many_object needs as many groups as many"
    seen: dict[str, str] = {}
    for key, rows in lists.items():
        if not rows:
            yield f"{key} is not a list of texts"
        for number, (text, labels) in enumerate(rows, start=1):
            here = f"{key} number {number}"
            if problem := _find_problem(key, text, labels):
                yield f"{here} {problem}"
            elif "{many_object}" in text and "many_object" not in lists:
                yield f"{here} needs the key many_object"
            elif key != "many_object" and seen.setdefault(text, here) != here:
                yield f"{here} repeats {seen[text]}"


def _find_problem(key: str, text: str, labels: str) -> str:
    names = labels.split()
    found = re.findall(r"\{[^{}]*\}|[{}]", text)
    if not text:
        return "is not a pair of text and labels" if key in LABELLED else "is not a text"
    if key not in PLACEHOLDERS and found:
        return "has a brace; expected a text without a placeholder"
    if key in PLACEHOLDERS and (len(found) != 1 or found[0] not in PLACEHOLDERS[key]):
        return f"needs exactly one placeholder, {' or '.join(PLACEHOLDERS[key])}"
    if unknown := set(names) - set(JIGSAW_LABELS):
        return f"has {len(unknown)} unknown label(s); expected {', '.join(JIGSAW_LABELS)}"
    if key in LABELLED and "toxic" not in names and (key != "vulgar" or set(names) - {"obscene"}):
        return "needs the label toxic"
    return ""


def main(words: Sequence[str] | None = None) -> int:
    """Write the sentences and the bundled sample as one CSV file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="CSV file to write")
    parser.add_argument("--languages", nargs="+", default=[], metavar="CODE", help="further languages, such as: es pt")
    given = parser.parse_args(words)
    parts = [write_sentences(), pd.read_csv(SAMPLE)]
    columns = ["comment_text", *JIGSAW_LABELS]
    if given.languages:
        parts = [part.assign(lang="en") for part in parts]
        parts += [write_language(FOLDER / f"{code}.toml") for code in dict.fromkeys(given.languages)]
        columns.insert(1, "lang")
    table = pd.concat(parts, ignore_index=True)
    given.target.parent.mkdir(parents=True, exist_ok=True)
    table[columns].to_csv(given.target, index=False)
    print(f"{given.target}: {len(table):,} comments")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ModerationError as error:
        sys.exit(f"error: {error}")
