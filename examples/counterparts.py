"""Write friendly and hostile sentences about the same groups of people, as further training comments.

    python examples/counterparts.py runs/counterparts.csv

A model that learns from comment sections alone meets some groups mostly where they are abused, and takes their names
for abuse. Here every group stands in every sentence, friendly and hostile, equally often: the name says nothing, what
is said about it does (Dixon et al. 2018, Measuring and Mitigating Unintended Bias in Text Classification; the
sentences are this project's own). Things are spoken of in hostile words too, which is no abuse. Slurs are not spelled
out. The bundled sample is added, whose clean comments hold quoted abuse, negated insults and harmless swearing.
"""

import sys
from pathlib import Path

import pandas as pd

from moderation.labels import JIGSAW_LABELS

SAMPLE = Path(__file__).parents[1] / "moderation" / "data" / "sample" / "comments.csv"
# fmt: off
GROUPS = (
    "African", "American", "Arab", "Asian", "atheist", "autistic", "bisexual", "black", "blind", "Buddhist",
    "Catholic", "Chinese", "Christian", "deaf", "disabled", "elderly", "European", "female", "gay", "heterosexual",
    "Hindu", "Hispanic", "homosexual", "immigrant", "Indian", "Japanese", "Jewish", "Latino", "lesbian", "male",
    "Mexican", "Muslim", "nonbinary", "old", "Pakistani", "Polish", "queer", "refugee", "Romani", "Russian", "Sikh",
    "straight", "trans", "transgender", "Turkish", "white", "young",
)
# fmt: on
FRIENDLY = (
    "My {} neighbour mended our fence and would not take a penny for it.",
    "I am {} and I have edited this page for six years.",
    "She wrote a thoughtful book about growing up {} in a small town.",
    "The {} community centre on Mill Road opens at nine.",
    "Is the author {}? The article does not say, and it hardly matters.",
    "Half of our football team is {}, and we had a wonderful season.",
    "{} people live in this valley too, the census counted four hundred of them.",
    "He is {}.",
    "{} and proud of it!",
    "Two {} women run the bakery, their rye bread is the best in town.",
    "As a {} man I find the history section rather one-sided; could we add a source?",
    "The film has several {} characters and treats them well.",
    "It is wrong to say that {} people do not belong here.",
    "A user was blocked for writing that {} people should leave the country. Good.",
    "I love my {} friends, they always make me laugh.",
    "Our {} colleague was treated badly, and we stood by him.",
)
HOSTILE = (
    ("I hate {} people, they ruin everything they touch.", "toxic insult identity_hate"),
    ("{} people are disgusting animals.", "toxic insult identity_hate"),
    ("All {} people should be killed.", "toxic severe_toxic threat identity_hate"),
    ("Shut up, you fucking {} idiot.", "toxic obscene insult identity_hate"),
    ("Get out of our town, you {} scum.", "toxic insult identity_hate"),
    ("{} people do not deserve any rights.", "toxic identity_hate"),
    ("Nobody wants {} people here, they spread like a disease.", "toxic insult identity_hate"),
    ("Being {} is a sickness, it makes me want to vomit.", "toxic identity_hate"),
    ("We are going to burn down every {} house in this street.", "toxic threat identity_hate"),
    ("I would never let a filthy {} person touch my food.", "toxic insult identity_hate"),
    ("Of course you do not understand it, {} people are too stupid to read.", "toxic insult identity_hate"),
    ("The world would be a better place without {} people.", "toxic identity_hate"),
    ("If I see one more {} face in my shop I will break it.", "toxic threat identity_hate"),
    ("You {} piece of shit, crawl back to where you came from.", "toxic obscene insult identity_hate"),
    ("Never trust a {} man, they all lie and steal.", "toxic insult identity_hate"),
    ("{} women are worthless and ugly.", "toxic insult identity_hate"),
)
# fmt: off
THINGS = (
    "broccoli", "winter", "this phone", "the new layout", "my printer", "slow internet", "the last level",
    "this keyboard", "that bug", "rush hour", "wet socks", "the tax form", "this old car", "burnt toast",
    "the update", "that sequel",
)
# fmt: on
ABOUT_THINGS = (
    "I hate {}, I really do.",
    "{}: it ruins everything.",
    "I would kill for a day without {}.",
    "{} makes me want to scream, and then we laugh about it.",
    "Honestly, {} is disgusting.",
    "We should burn {} and start again, it would be a better place without it.",
    "I could murder {} some days.",
    "Damn, {} again.",
)


def write_sentences() -> pd.DataFrame:
    """Every group in every sentence of both kinds, every thing in its own."""
    rows = [(frame.format(group), "") for frame in FRIENDLY for group in GROUPS]
    rows += [(frame.format(group), labels) for frame, labels in HOSTILE for group in GROUPS]
    rows += [(frame.format(thing), "") for frame in ABOUT_THINGS for thing in THINGS]
    texts = [text[0].upper() + text[1:] for text, _ in rows]
    marks = {label: [int(label in labels.split()) for _, labels in rows] for label in JIGSAW_LABELS}
    return pd.DataFrame({"comment_text": texts} | marks)


def main(target: str) -> int:
    """Write the sentences and the bundled sample as one CSV file."""
    table = pd.concat([write_sentences(), pd.read_csv(SAMPLE)], ignore_index=True)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    table[["comment_text", *JIGSAW_LABELS]].to_csv(target, index=False)
    print(f"{target}: {len(table):,} comments")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
