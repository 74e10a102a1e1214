"""Text -> which of its words are common ones of English, or of Urdu and Hindi in Latin letters.

A few words show a language better than statistics of letters do, which need a sentence.
"""

import re
from dataclasses import dataclass

# Words that are common in English comments, and not in those of other languages in Latin letters (as "is", "was", "to",
# "for" and "over" are). In English comments one word in three is among them; in Spanish, Italian, Turkish, German,
# French and Portuguese ones, one word in a hundred.
_ENGLISH_WORDS = """about absolutely actually after again against agree almost already always and another answer any
anyone anything are aren't around ass asshole away awful bc because been before being believe better bitch boring both
bout bring but can't cannot cant could couldn't deserve did didn't different disgusting does doesn't doesnt doing don't
dont down dumb each either else enough even ever every everyone everything feel feels fool fools found from fuck fucked
fucking get gets getting girls give gives giving go going gonna good got gotta great guess guy guys hate have haven't
having he'd he'll he's hear him himself his hope how i'd i'll i'm i've idiot idiots into isn't it it's its itself ive
just keep kill killed knew know known knows let's liar liars lies like little lives look looking looks made make makes
making many matter maybe might more moron morons much must myself need needs never nobody not nothing of off often old
once one only other others our out own pathetic people piece please pretty probably put quite rather read really right
said say saying says seem seems seen she she's should shouldn't shut sick someone something sometimes sorry speak stop
stuff stupid such suck sucks sure take taken takes taking talk talking tell telling than thank thanks that that's thats
the their them themselves then there there's these they they're they've thing things think thinking thinks this those
thought through told too truth trying two ugly understand unless until using very wanna wants wasn't watch way we'll
we're we've well went were what what's when where which while who whole why wish with without woman women won't wonder
wont word words work working world worse worst worth worthless would wouldn't wow writing wrong yeah year years yes yet
you you'd you'll you're you've young your youre yours yourself"""
# Common words of Urdu and Hindi comments in Latin letters, in the spellings that people use.
_ROMANISED_WORDS = """aa aaj aap aapka aapke aapki aapko ab abe abey abhi accha acha achha aik aisa aj apka apke apki
apko apna apne apni apny aur aurat baap baat bacha bata bhai bhaunk bhen bhenchod bhi bhosdike bhot bht bilkul bnd bohat
bohot chahiye chal chod dekh dekho dil diya ek gand gaya gaye gayi gya gyi haan hain harami hath hn hoga hogaya hogi
hona hota hoti hua hui hum huwa hy jab jata jaye jo kaam kab kabhi kaha kahan kaise kaisy kal kar karke karna karne karo
karta karte kaun kay keh khud kia kisi kiya kiye ko koi kon kr krna kro krta kuch kutta kya kyon kyu kyun larki lekin
liye log logon maa mein mera mere meri mjhe mn mujhe mujhy nahi nahin nai nhi ny pata phir pr pta raha rahe rahi randi
rha rhi saala saale saath sab sala sath sirf sy tak tera tere teri tha thi toh tum tumhara tumhari tumhe wala wale wali
wo woh yaar ye yeh"""
# Urdu and Hindi words that are words of other languages too: they count only next to one of those above.
_AMBIGUOUS_WORDS = "b h ha hai ho k ka ki me na se tu"
_ENGLISH, _ROMANISED, _AMBIGUOUS = (
    frozenset(words.split()) for words in (_ENGLISH_WORDS, _ROMANISED_WORDS, _AMBIGUOUS_WORDS)
)
_WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:'[^\W\d_]+)?(?!\w)")  # none next to a digit: "ye5" is no "ye"


@dataclass(frozen=True)
class WordCounts:
    """How many words a text has, and how many of them are common in English, and in romanised Urdu or Hindi."""

    n_words: int
    n_english: int
    n_romanised: int

    @property
    def english(self) -> float:
        """Share of the words that are English."""
        return self.n_english / max(self.n_words, 1)

    @property
    def romanised(self) -> float:
        """Share of the words that are Urdu or Hindi."""
        return self.n_romanised / max(self.n_words, 1)


def count_words(text: str) -> WordCounts:
    """Count the words of a text, and the common ones.

    >>> count_words("You are the pineapple"), count_words("tum kya kar rahe ho")
    (WordCounts(n_words=4, n_english=3, n_romanised=0), WordCounts(n_words=5, n_english=0, n_romanised=5))
    """
    words = _WORD.findall(text.lower().replace("\u2019", "'"))
    n_romanised = sum(word in _ROMANISED for word in words)
    n_ambiguous = sum(word in _AMBIGUOUS for word in words) if n_romanised else 0
    return WordCounts(len(words), sum(word in _ENGLISH for word in words), n_romanised + n_ambiguous)
