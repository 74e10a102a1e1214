"""Do disguises hide anything, and what do the countermeasures cost? Styles, clean texts, and the detected language.

It prints five tables: how many toxic comments are flagged in each style; how many clean texts (names, prices, code,
other scripts, with emoji after them) are flagged; how many toxic comments a language gate would refuse after each edit;
how many texts in other languages are recognised; and the tokenizer's time. With `--former`, flags and times are shown
next to those of another bundle.

    python benchmarks/styles.py --former FOLDER --foreign multilingual_validation.csv.gz
"""

# ruff: noqa: RUF001 -- other scripts are the point

import argparse
import time
import unicodedata
from pathlib import Path

import pandas as pd
from tables import print_table

from moderation.bundles import SHIPPED
from moderation.data.disguises import EVASIONS, STYLES, edit_text
from moderation.data.languages import Languages
from moderation.inference.classifier import Classifier
from moderation.suites.scorer import Scorer
from moderation.tables.options import TEXT_COLUMN

SAMPLE = Path(__file__).parent.parent / "moderation" / "data" / "sample" / "comments.csv"
N_TOXIC, N_EMOJI, N_FOREIGN = 150, 300, 300
ENOUGH_LETTERS = 100
CLEAN = {
    "Russian": (
        "Какой прекрасный день для прогулки",
        "Сегодня мы ходили в музей и видели старые картины",
        "Моя сестра живёт в Санкт-Петербурге и работает врачом",
        "Пожалуйста, исправьте ссылку во втором разделе статьи",
        "Спасибо за помощь, теперь всё работает",
        "Библиотека открывается в девять утра",
        "Я прочитал половину книги в автобусе",
        "Завтра будет дождь, возьмите зонт",
        "Этот рецепт борща мне дала бабушка",
        "Когда начинается следующий урок русского языка?",
        "Команда выиграла матч со счётом три ноль",
        "Новая станция метро откроется в декабре",
        "Все люди рождаются свободными и равными в своём достоинстве и правах",
        "Они наделены разумом и совестью и должны поступать в отношении друг друга в духе братства",
        "Поезд опоздал на сорок минут",
        "Хорошего дня и до встречи",
    ),
    "Ukrainian": (
        "Дякую за допомогу, все працює",
        "Сьогодні чудова погода для прогулянки",
        "Всі люди народжуються вільними і рівними у своїй гідності та правах",
        "Бібліотека відкривається о дев'ятій ранку",
        "Моя сестра живе у Києві",
        "Коли починається наступний урок?",
    ),
    "Bulgarian": (
        "Благодаря ви за помощта",
        "Всички хора се раждат свободни и равни по достойнство и права",
        "Утре ще вали, вземете чадър",
        "Влакът закъсня с четиридесет минути",
    ),
    "Greek": (
        "Καλημέρα σε όλους, τι κάνετε σήμερα;",
        "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα",
        "Το τρένο καθυστέρησε σαράντα λεπτά",
        "Η βιβλιοθήκη ανοίγει στις εννέα το πρωί",
        "Ευχαριστώ πολύ για τη βοήθεια",
        "Αύριο θα βρέξει, πάρτε ομπρέλα",
        "Η αδελφή μου μένει στη Θεσσαλονίκη και εργάζεται ως γιατρός",
        "Διόρθωσα τους δύο συνδέσμους στη δεύτερη ενότητα",
        "Πότε αρχίζει το επόμενο μάθημα;",
        "Η συνταγή αυτή είναι της γιαγιάς μου",
    ),
    "Hindi": (
        "आज का दिन कितना सुंदर है",
        "सभी मनुष्य जन्म से स्वतंत्र और समान हैं",
        "मेरी बहन दिल्ली में रहती है",
        "धन्यवाद, अब सब ठीक है",
        "पुस्तकालय सुबह नौ बजे खुलता है",
    ),
    "Hebrew": (
        "תודה רבה על העזרה",
        "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם",
        "הרכבת איחרה בארבעים דקות",
        "הספרייה נפתחת בתשע בבוקר",
    ),
    "Thai": (
        "วันนี้อากาศดีมากเลยนะ",
        "ขอบคุณสำหรับความช่วยเหลือ",
        "ห้องสมุดเปิดเก้าโมงเช้า",
    ),
    "Armenian, Georgian, Amharic": (
        "Բոլոր մարդիկ ծնվում են ազատ ու հավասար",
        "Շնորհակալություն օգնության համար",
        "ყველა ადამიანი იბადება თავისუფალი",
        "დიდი მადლობა დახმარებისთვის",
        "Ինչ գեղեցիկ օր է այսօր",
        "ዛሬ ጥሩ ቀን ነው",
    ),
    "names": (
        "Thomas Müller and Łukasz Piszczek played well.",
        "Søren Kierkegaard and Bjørn Ødegård wrote letters.",
        "We flew to İstanbul and then to Ağrı.",
        "A naïve approach, said Zoë Brontë.",
        "The café in São Paulo, near Praça da Sé.",
        "François Côté met Dvořák in Plzeň.",
        "Nguyễn Thị Minh Khai street in Đà Nẵng",
        "Háskóli Íslands, Þórður Guðmundsson, Reykjavík",
        "Saoirse Ó Briain and Siân ap Rhŷs",
        "Ərşad Əliyev moved to Bakı.",
        "Straße des 17. Juni, Groß-Gerau, Weiß",
        "Škoda and Citroën repair shop",
        "Hawaiʻi, Oʻahu and Kahoʻolawe",
        "Ngũgĩ wa Thiong'o and Chinụa",
        "Đorđe Đoković, Ćiro Blažević",
    ),
    "prices": (
        "It costs €50 or £3 or ¥500, depending.",
        "A £bn deal and a €2m fine",
        "₩500,000, ₦200, ₱75, ฿300, ₹1,200 and ₴40",
        "USD€5, US$500, C$20, A$1,200",
        "50¢ a cup, 3€ a glass, 20 kr.",
        "from ₿0.1 to ₿2",
        "The price rose 5 % to 1.299,90 €.",
    ),
    "units and maths": (
        "a 5 µm film, 3 Ω resistor, 20 μs pulse, 7 μmol/L",
        "Δx · Δp ≥ ħ/2, with σ = 0.5 and ω = 2πf",
        "∑ x² ≤ ∞ ⇒ ∀ε>0 ∃δ",
        "A ∩ B ⊂ A ∪ B; f∘g; √2 ≈ 1.414; 3×4=12",
        "α-helix, β-carotene, γ-rays and λ-calculus",
        "25 °C, 1 ℃, № 5, ½ cup, 4th ®, Python™, ©2020 Acme",
        "π r² is the area, θ the angle, φ the golden ratio",
    ),
    "code": (
        "for (i = 0; i < n; i++) { total += a[i]; }",
        "SELECT name, price FROM items WHERE id = 42;",
        "x = λ y: y+1 // ∀ i ∈ A",
        "def área(π, r): return π * r ** 2",
        "ß = α * γ; μ, σ = mean(x), std(x)",
        '<a href="/home?tab=2#top">Home</a>',
    ),
    "Arabic": (
        "يا له من يوم جميل",
        "شكرا على المساعدة",
        "تفتح المكتبة في التاسعة صباحا",
        "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق",
    ),
    "Chinese": (
        "今天天气真好",
        "谢谢你的帮助",
        "图书馆早上九点开门",
        "我用iPhone上网",
        "人人生而自由，在尊严和权利上一律平等",
    ),
    "Japanese": (
        "今日はとてもいい天気ですね",
        "手伝ってくれてありがとう",
        "図書館は朝九時に開きます",
        "Tシャツを二枚買いました",
    ),
    "Korean": (
        "오늘 날씨가 정말 좋네요",
        "도와주셔서 감사합니다",
        "도서관은 아침 아홉 시에 문을 엽니다",
        "모든 인간은 태어날 때부터 자유롭다",
    ),
}
HOSTILE_EMOJI = "\U0001f595\U0001f4a9"  # these two are hostile after any text


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=SHIPPED, help="default: the included model")
    parser.add_argument("--former", type=Path, help="bundle to compare with")
    parser.add_argument("--foreign", type=Path, help="table with the columns comment_text and lang")
    options = parser.parse_args()
    sample = pd.read_csv(SAMPLE)
    toxic = sample[sample["toxic"] == 1][TEXT_COLUMN].tolist()
    clean = sample[sample["toxic"] == 0][TEXT_COLUMN].tolist()
    folders = {"flagged": options.bundle} | ({"former": options.former} if options.former else {})
    classifiers = {name: Classifier.load(folder, threads=1) for name, folder in folders.items()}
    scorers = {name: Scorer(classifier) for name, classifier in classifiers.items()}
    print_styles(scorers, toxic[:N_TOXIC])
    print_clean(scorers, clean)
    print_languages(classifiers["flagged"], toxic, options.foreign)
    print_times(classifiers, clean)


def print_styles(scorers: dict[str, Scorer], texts: list[str]) -> None:
    rows = []
    for style in ("none", *STYLES):
        styled = texts if style == "none" else [edit_text(style, text, 1) for text in texts]
        counts = {name: int(scorer.flagged(styled, style).sum()) for name, scorer in scorers.items()}
        rows.append({"style": style, "of": len(texts), **counts})
    print_table(rows)


def print_clean(scorers: dict[str, Scorer], comments: list[str]) -> None:
    emoji = [chr(place) for place in range(0x1F300, 0x1FAF0) if unicodedata.category(chr(place)) == "So"]
    emoji = [sign for sign in emoji[:: len(emoji) // N_EMOJI][:N_EMOJI] if sign not in HOSTILE_EMOJI]
    short = [text for text in comments if len(text) < 60][:10]
    sets = dict(CLEAN) | {
        f"{len(short)} clean comments": tuple(short),
        f"each of these with each of {len(emoji)} emoji": tuple(f"{text} {sign}" for text in short for sign in emoji),
        "a clean comment in each style": tuple(edit_text(style, short[0], 1) for style in STYLES),
    }
    rows = []
    for name, texts in sets.items():
        counts = {which: int(scorer.flagged(texts, name).sum()) for which, scorer in scorers.items()}
        rows.append({"clean texts": name, "of": len(texts), **counts})
    print_table(rows)


def print_languages(classifier: Classifier, toxic: list[str], foreign: Path | None) -> None:
    known = classifier.languages
    as_written = Languages("This benchmark", "languages")
    as_read = Languages("This benchmark", "languages", classifier.normalise)
    rows = []
    for name in ("none", *EVASIONS):
        texts = toxic if name == "none" else [edit_text(name, text, 1) for text in toxic]
        before = sum(as_written.detect(text) not in ("und", *known) for text in texts)
        now = sum(as_read.foreign(text, known) is not None for text in texts)
        rows.append({"edit": name, "of": len(texts), "as written, any doubt": before, "refused": now})
    print_table(rows)
    if foreign is None:
        return
    table = pd.read_csv(foreign)
    table = table[table[TEXT_COLUMN].str.count(r"[^\W\d_]") >= ENOUGH_LETTERS]
    rows = []
    for language, part in table.groupby("lang"):
        texts = part[TEXT_COLUMN].sample(min(N_FOREIGN, len(part)), random_state=1).tolist()
        rows.append(
            {
                "language": str(language),
                "of": len(texts),
                "called so": sum(as_read.detect(text) == language for text in texts),
                "surely foreign": sum(as_read.foreign(text, known) is not None for text in texts),
            }
        )
    print_table(rows)


def print_times(classifiers: dict[str, Classifier], texts: list[str]) -> None:
    best = {name: float("inf") for name in classifiers}
    for _ in range(5):
        for name, classifier in classifiers.items():
            begin = time.process_time()
            for text in texts:
                classifier.windows(text)
            best[name] = min(best[name], time.process_time() - begin)
    for name, seconds in best.items():
        print(f"cutting {len(texts):,} texts into tokens, {name}: {seconds:.2f} s of processor time")


if __name__ == "__main__":
    main()
