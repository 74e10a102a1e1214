"""Write friendly and hostile sentences made of the same words, as further training comments.

    python examples/counterparts.py runs/counterparts.csv

A model that learns from comment sections alone meets some groups of people mostly where they are abused, and takes
their names for abuse; it takes "idiot" for an insult also where somebody complains of being called one, and "kill" for
a threat also where it is said of a process. Here every group stands in every sentence, friendly and hostile, insults
stand in reports and denials too, and words of threats in harmless talk, so that what is said counts for more than the
word (Dixon et al. 2018, Measuring and Mitigating Unintended Bias in Text Classification; the sentences are this
project's own). Slurs are not spelled out. The bundled sample is added.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from moderation.labels import JIGSAW_LABELS

SAMPLE = Path(__file__).parents[1] / "moderation" / "data" / "sample" / "comments.csv"
# Before a noun; after "is"; several of them.
GROUPS = (
    ("African", "African", "Africans"),
    ("American", "American", "Americans"),
    ("Arab", "an Arab", "Arabs"),
    ("Asian", "Asian", "Asians"),
    ("atheist", "an atheist", "atheists"),
    ("autistic", "autistic", "autistic people"),
    ("bisexual", "bisexual", "bisexuals"),
    ("black", "black", "black people"),
    ("black", "a black man", "blacks"),
    ("blind", "blind", "blind people"),
    ("Buddhist", "a Buddhist", "Buddhists"),
    ("Canadian", "Canadian", "Canadians"),
    ("Catholic", "Catholic", "Catholics"),
    ("Chinese", "Chinese", "Chinese people"),
    ("Christian", "a Christian", "Christians"),
    ("deaf", "deaf", "deaf people"),
    ("disabled", "disabled", "disabled people"),
    ("elderly", "elderly", "elderly people"),
    ("European", "European", "Europeans"),
    ("female", "a woman", "women"),
    ("foreign", "a foreigner", "foreigners"),
    ("gay", "gay", "gay people"),
    ("gay", "a gay man", "gays"),
    ("heterosexual", "heterosexual", "heterosexuals"),
    ("Hindu", "a Hindu", "Hindus"),
    ("Hispanic", "Hispanic", "Hispanics"),
    ("homosexual", "homosexual", "homosexuals"),
    ("homosexual", "a homosexual", "homosexual people"),
    ("immigrant", "an immigrant", "immigrants"),
    ("Indian", "Indian", "Indians"),
    ("Japanese", "Japanese", "Japanese people"),
    ("Jewish", "Jewish", "Jews"),
    ("Latino", "Latino", "Latinos"),
    ("lesbian", "a lesbian", "lesbians"),
    ("LGBT", "LGBT", "LGBT people"),
    ("male", "a man", "men"),
    ("Mexican", "Mexican", "Mexicans"),
    ("Muslim", "Muslim", "Muslims"),
    ("Muslim", "a Muslim woman", "Muslim people"),
    ("nonbinary", "nonbinary", "nonbinary people"),
    ("old", "old", "old people"),
    ("Pakistani", "Pakistani", "Pakistanis"),
    ("Polish", "Polish", "Poles"),
    ("Protestant", "a Protestant", "Protestants"),
    ("queer", "queer", "queer people"),
    ("refugee", "a refugee", "refugees"),
    ("Romani", "Romani", "Romani people"),
    ("Russian", "Russian", "Russians"),
    ("Sikh", "a Sikh", "Sikhs"),
    ("straight", "straight", "straight people"),
    ("trans", "trans", "trans people"),
    ("transgender", "transgender", "transgender women"),
    ("Turkish", "Turkish", "Turks"),
    ("white", "white", "white people"),
    ("young", "young", "young people"),
)
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
    # against abuse: said of it, not with it
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
    # feelings and faults that have nothing to do with a group
    "I hate the way {many} are talked about in this thread.",
    "It disgusts me how the papers write about {many}.",
    "I cannot stand it when my {adj} friends are left out.",
    "My {adj} aunt was furious about the noise, and so was I.",
    "We lost to the {adj} team because they were better and we were lazy.",
    "I dislike the soup in the {adj} restaurant, the bread is superb.",
    "Why do so many {many} leave this town, is it the rents?",
    "Is it true that {many} pay more for insurance?",
    "Do you think that {many} are treated fairly in this film?",
    "I believe that {many} have waited long enough for an apology.",
    "In my opinion the chapter on {many} needs a better source.",
    "We met some {adj} students at the lake. They were great fun.",
    "I am {is_} and proud, so what?",
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
    # dislike, said plainly
    ("I loathe {many} with all my heart and I am not sorry.", "toxic identity_hate"),
    ("It makes my skin crawl when {many} sit down next to me.", "toxic identity_hate"),
    ("Nothing annoys me as much as {many}, they should stay away from me.", "toxic identity_hate"),
    ("I have never liked {many} and I avoid them wherever I can.", "toxic identity_hate"),
    ("My contempt for {many} grows every day.", "toxic identity_hate"),
    ("I feel sick when I think of all the {many} in my street.", "toxic identity_hate"),
    ("Honestly, {many} revolt me.", "toxic identity_hate"),
    ("What I feel for {many} is hatred, plain and simple.", "toxic identity_hate"),
    ("We are all tired of {many} and their whining.", "toxic insult identity_hate"),
    ("I wanted to be fair, but I detest that {adj} family and everybody like them.", "toxic identity_hate"),
    ("I met some {many} yesterday. What horrible people, I hated every minute.", "toxic insult identity_hate"),
    ("A {adj} couple moved in next door. I cannot bear to look at them.", "toxic identity_hate"),
    ("I dislike everyone at this school who is {is_}.", "toxic identity_hate"),
    # bad qualities
    ("{many} are lazy, dirty and dishonest, all of them.", "toxic insult identity_hate"),
    ("{many} have the brains of a brick.", "toxic insult identity_hate"),
    ("A {adj} person is a liar by birth.", "toxic insult identity_hate"),
    ("Ugly, greedy, useless: that is {many} for you.", "toxic insult identity_hate"),
    ("You cannot be {is_} and have a conscience.", "toxic insult identity_hate"),
    ("Most {many} are cowards, and the rest are crooks.", "toxic insult identity_hate"),
    ("If he is {is_}, he is an idiot.", "toxic insult identity_hate"),
    ("{many} smell, and they are too dumb to wash.", "toxic insult identity_hate"),
    ("I am sure that {many} were born evil.", "toxic insult identity_hate"),
    ("It is so like {many} to be that ignorant and rude.", "toxic insult identity_hate"),
    # less than human
    ("{many} are a plague of locusts.", "toxic insult identity_hate"),
    ("Those {many} are parasites that live off our blood.", "toxic insult identity_hate"),
    ("Keep {many} on a chain, like the dogs that they are.", "toxic insult identity_hate"),
    ("You {adj} monkey, nobody asked for your opinion.", "toxic insult identity_hate"),
    ("{many} do not count as people.", "toxic identity_hate"),
    ("{many} are a stain on this earth.", "toxic insult identity_hate"),
    # said without a hard word
    ("I would sooner sleep in the street than rent from {many}.", "toxic identity_hate"),
    ("Count your spoons when {many} have been in the house.", "toxic insult identity_hate"),
    ("If it has a {adj} owner, I burn what I bought there.", "toxic identity_hate"),
    ("A child with {adj} parents should be taken away from them.", "toxic identity_hate"),
    ("There was a time when {many} knew their place.", "toxic identity_hate"),
    ("The hospital should not waste medicine on {many}.", "toxic identity_hate"),
    ("I cried when my daughter brought a {adj} boy home, I had raised her better.", "toxic identity_hate"),
    ("{many} should be sterilised.", "toxic identity_hate"),
    ("Keep {many} out of our schools.", "toxic identity_hate"),
    ("Somewhere a village of {many} is missing its idiot, and here you are.", "toxic insult identity_hate"),
    # a good thing denied
    ("{many} have never been honest and never will be.", "toxic insult identity_hate"),
    ("I have no pity for {many}, and I do not want to have any.", "toxic identity_hate"),
    ("{many} are not worth a kind word.", "toxic insult identity_hate"),
    ("No decent person is {is_}.", "toxic insult identity_hate"),
    ("{many} will not be clever in a thousand years.", "toxic insult identity_hate"),
    ("You will never be one of us, you are {is_}.", "toxic identity_hate"),
    ("Being {is_} is not natural and cannot be right.", "toxic identity_hate"),
    # asked, and thought
    ("Why are {many} always so vile?", "toxic insult identity_hate"),
    ("Do you not see how filthy {many} are?", "toxic insult identity_hate"),
    ("Who could ever love somebody who is {is_}?", "toxic identity_hate"),
    ("When will we be rid of {many} for good?", "toxic identity_hate"),
    ("Can we agree that {many} are the dregs of society?", "toxic insult identity_hate"),
    ("If you ask me, {many} are vermin.", "toxic insult identity_hate"),
    ("In my view {many} should have no say in anything.", "toxic identity_hate"),
    ("I truly think that {many} are beneath us.", "toxic identity_hate"),
    # threats and wishes
    ("I will stab the next one of you {many} who talks to me.", "toxic threat identity_hate"),
    ("We will hunt {many} down, house by house.", "toxic threat identity_hate"),
    ("I hope that {many} burn.", "toxic threat identity_hate"),
    ("{many} have it coming: a bullet each.", "toxic threat identity_hate"),
    ("I want to see {many} suffer and beg.", "toxic threat identity_hate"),
    ("Hang the {adj} lot of them from the lamp posts.", "toxic threat identity_hate"),
    ("One of these days I will set fire to that {adj} family.", "toxic threat identity_hate"),
    ("Fuck off, all you {many}.", "toxic obscene insult identity_hate"),
)
# What others said of a group: reported, and said again. No report is itself a wish or a threat.
REPORTED = (
    'She wrote "{}" to a colleague and lost her job over it.',
    'Somebody sprayed "{}" on the wall of the school. We painted it over.',
    'I was told "{}" on the bus today, and nobody said a word.',
    '"{}" is not an opinion, it is abuse.',
    'Please remove the comment that says "{}", it breaks rule two.',
    'The leaflet said: "{}" Shame on whoever printed it.',
    'You cannot post "{}" here. This is your only warning.',
    'Anybody who shouts "{}" in our stadium is banned for life.',
    'My grandmother still remembers the signs: "{}"',
    'The witness testified that the accused had said "{}" before.',
)
SAID_AGAIN = (
    '"{}" My father used to say that, and he was right.',
    'As the song goes: "{}" I could not agree more.',
    "{} There, I said it.",
    "{} And do not dare to delete this.",
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


def write_sentences() -> pd.DataFrame:
    """Every filling in every frame of its kind, friendly and hostile."""
    rows = [*_about_groups(), *_fill([(frame, "") for frame in ABOUT_THINGS], THINGS)]
    rows += [*_fill([(frame, "") for frame in NO_INSULT], INSULTS), *_fill(INSULT, INSULTS)]
    rows += [*_fill([(frame, "") for frame in NO_THREAT], WAYS), *_fill(THREATS, WAYS)]
    texts = [text[0].upper() + text[1:] for text, _ in rows]
    marks = {label: [int(label in labels.split()) for _, labels in rows] for label in JIGSAW_LABELS}
    return pd.DataFrame({"comment_text": texts} | marks).drop_duplicates("comment_text")


def _about_groups() -> Iterator[Row]:
    """Every friendly frame with every group; every hostile one with two groups of three, in turn."""
    for frame in FRIENDLY:
        yield from ((_name(frame, group), "") for group in GROUPS)
    for number, (frame, labels) in enumerate(HOSTILE):
        for place, group in enumerate(GROUPS):
            if (turn := number + place) % 3:
                yield (said := _name(frame, group)), labels
                yield from _quoted(said, labels, turn)


def _name(frame: str, group: tuple[str, str, str]) -> str:
    text = frame.format(adj=group[0], is_=group[1], many=group[2])
    return text[0].upper() + text[1:]


def _quoted(said: str, labels: str, turn: int) -> Iterator[Row]:
    """Some hostile sentences in a report of them, fewer in the mouth of somebody who means them."""
    if turn % 4 == 0:
        yield REPORTED[turn // 4 % len(REPORTED)].format(said), ""
    if turn % 10 == 1:
        yield SAID_AGAIN[turn // 10 % len(SAID_AGAIN)].format(said), labels


def _fill(frames: Sequence[Row], fillings: Sequence[str]) -> Iterator[Row]:
    for frame, labels in frames:
        for filling in fillings:
            yield frame.format(filling), labels


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
