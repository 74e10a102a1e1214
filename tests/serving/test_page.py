"""The page, in a real browser against a real server: what a moderator types, moves and sees."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from tests.language_bundle import ENGLISH, TURKISH, make_many
from tests.serving.conftest import started

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
expect = sync_api.expect

CHROMIUM = shutil.which("chromium")  # else the one that Playwright installed
SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
# Two sentences with the model's words behind characters of one, two and four UTF-16 units.
TEXT = "A kind river \N{REGIONAL INDICATOR SYMBOL LETTER G}\N{REGIONAL INDICATOR SYMBOL LETTER B}. \N{THUMBS UP SIGN}"
TEXT += "\N{EMOJI MODIFIER FITZPATRICK TYPE-5} You stupid idiot! Cafe\N{COMBINING ACUTE ACCENT} and bread are fine. "
TEXT += "Damn them, stupid idiot."
CALM = "a kind river"
KEPT = "JSON.parse(Object.entries(localStorage).find(([name]) => name.includes('thresholds'))[1])"
BLOCKED = "for (const store of ['localStorage', 'sessionStorage']) "
BLOCKED += "Object.defineProperty(window, store, { get() { throw new DOMException('blocked', 'SecurityError'); } });"


@dataclass
class Visit:
    """A tab, and what it must not do: complain, or talk to others."""

    page: "sync_api.Page"
    url: str
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def open(self) -> "sync_api.Page":
        self.page.goto(self.url)
        expect(self.page.locator(".labels li").first).to_be_visible()
        return self.page

    def read(self, text: str, but: str = "") -> dict:
        """Write a text into the field and wait for its verdict, `but` a label whose threshold was moved.

        Returns:
            What the server says of the text, asked a second time.
        """
        with self.page.expect_response("**/v1/predict"):
            self.page.fill("#text", text)
        return self.expect_verdict(text, but)

    def expect_verdict(self, text: str, but: str = "") -> dict:
        body = {"texts": [text], "sentences": True}
        found = httpx.post(f"{self.url}/v1/predict", json=body).raise_for_status().json()["results"][0]
        flagged = [label for label in found["flagged"] if label != but]
        words = f"Flagged: {', '.join(flagged)}" if flagged else "Not flagged"
        expect(self.page.locator("#verdict")).to_have_text(words)
        return found

    def row(self, label: str) -> "sync_api.Locator":
        return self.page.locator(".labels li").filter(has=self.page.get_by_role("button", name=label, exact=True))

    def slider(self, label: str) -> "sync_api.Locator":
        return self.page.get_by_role("slider", name=f"Threshold of {label}", exact=True)

    def number(self, label: str) -> "sync_api.Locator":
        return self.page.get_by_role("spinbutton", name=f"Threshold of {label} as a number", exact=True)


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    expect.set_options(timeout=20_000)
    with sync_api.sync_playwright() as playwright:
        if CHROMIUM is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no chromium: apt install chromium, or playwright install chromium")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--headless", *SWITCHES.split()])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, server) -> Iterator[Visit]:
    yield from visiting(browser, server.url)


def visiting(browser, url: str, allowed: str = " nothing ", **settings) -> Iterator[Visit]:
    context = browser.new_context(**settings)
    it = Visit(context.new_page(), url)
    it.page.on("console", lambda message: it.complaints.append(message.text) if message.type != "log" else None)
    it.page.on("pageerror", lambda error: it.complaints.append(str(error)))
    it.page.on("request", lambda request: it.asked.append(request.url))
    yield it
    context.close()
    assert [complaint for complaint in it.complaints if allowed not in complaint] == []
    assert {urlsplit(address)[:2] for address in it.asked} == {urlsplit(url)[:2]}


@pytest.fixture(scope="module")
def model(server) -> dict:
    return httpx.get(f"{server.url}/v1/model").raise_for_status().json()


def decimals(value: float) -> str:
    return f"{value:.{5 if 0 < value < 0.0005 or 0.9995 <= value < 1 else 3}f}"


def written(value: float) -> str:
    """A threshold in its field: three decimals, a fourth where it has no more than that."""
    short, exact = decimals(value), str(round(value, 4))
    return exact if float(exact) == value and len(exact) > len(short) else short


def test_a_text_is_read_as_it_is_typed(visit, model):
    page = visit.open()
    expect(page.locator("#verdict")).to_have_text("No text")
    expect(page.locator("#model")).to_have_text(model["model_version"])
    page.locator("#text").press_sequentially("you stupid idiot, damn", delay=5)
    found = visit.expect_verdict("you stupid idiot, damn")
    assert found["flagged"]
    for label, probability in found["probabilities"].items():
        row = visit.row(label)
        expect(row.locator(".probability")).to_have_text(decimals(probability))
        expect(row.locator(".decision")).to_have_text("flagged" if label in found["flagged"] else "below")
        words = f"{decimals(probability)}, {'flagged' if label in found['flagged'] else 'below'}"
        expect(row.get_by_role("meter")).to_have_attribute("aria-valuetext", words)
    expect(page.get_by_role("status")).to_have_text(f"Flagged: {', '.join(found['flagged'])}")
    assert sum(address.endswith("/v1/predict") for address in visit.asked) < 22  # not one for each letter

    assert len(visit.read(CALM)["flagged"]) < len(found["flagged"])
    page.fill("#text", "")
    expect(page.locator("#verdict")).to_have_text("No text")
    expect(visit.row("toxic").locator(".probability")).to_have_text("\N{EN DASH}")


def test_keys_move_a_threshold_from_point_to_point(visit, model):
    page = visit.open()
    found = visit.read(TEXT)
    label = found["flagged"][0]
    curve = model["curves"]["labels"][label]
    place = curve["threshold"].index(model["thresholds"][label])
    row, slider = visit.row(label), visit.slider(label)
    slider.focus()
    for key, now in (("ArrowRight", place + 1), ("ArrowLeft", place), ("ArrowLeft", place - 1), ("Home", 0)):
        page.keyboard.press(key)
        expect(visit.number(label)).to_have_value(written(curve["threshold"][now]))
        expect(row.locator(".worth")).to_contain_text(f"{100 * curve['recall'][now]:.0f} of 100 found")
        expect(row.locator(".worth")).to_contain_text(f"of 100 flagged, {100 * curve['precision'][now]:.0f} are right")
    expect(slider).to_have_attribute("aria-valuetext", f"0.000: {row.locator('.worth').inner_text()}")
    page.keyboard.press("End")
    expect(row.locator(".decision")).to_have_text("below")
    expect(row.locator(".worth")).to_contain_text("flags nothing; 0 of 100 found")
    others = [name for name in found["flagged"] if name != label]
    expect(page.locator("#verdict")).to_have_text(f"Flagged: {', '.join(others)}" if others else "Not flagged")

    page.reload()  # the threshold is kept, the text is not
    visit.read(TEXT, but=label)
    expect(row.locator(".decision")).to_have_text("below")
    page.get_by_role("button", name=f"reset to {decimals(model['thresholds'][label])}, the tuned").click()
    expect(row.locator(".decision")).to_have_text("flagged")
    expect(page.get_by_role("button", name="Reset thresholds")).to_be_disabled()


def test_a_threshold_is_typed_as_a_number(visit, model):
    page = visit.open()
    found = visit.read(TEXT)
    label = found["flagged"][0]
    number, row = visit.number(label), visit.row(label)
    probability = found["probabilities"][label]
    for typed in ("0.8", ".25", "0.8125", "1", "0"):
        number.fill(typed)
        expect(row.locator(".decision")).to_have_text("flagged" if probability >= np.float32(typed) else "below")
        expect(row.get_by_text("A threshold is a number")).to_be_hidden()
        kept = page.evaluate(KEPT)
        assert kept == {label: float(typed)}, "as it was typed, not the nearest point"
        number.press("Enter")
        expect(number).to_have_value(written(float(typed)))
        expect(visit.slider(label)).to_have_value(str(float(typed)).removesuffix(".0"))
    points = np.array(model["curves"]["labels"][label]["threshold"])
    between = round(float(points[:2].mean()), 5) if len(points) > 1 else 0.5
    number.fill(str(between))
    expect(row.locator(".worth")).to_contain_text("of 100 found")
    page.get_by_role("button", name="Reset thresholds").click()
    expect(number).to_have_value(written(model["thresholds"][label]))


@pytest.mark.parametrize("typed", ["1.5", "-0.1", "", "7e5"])
def test_an_invalid_threshold_is_refused_and_moves_nothing(visit, model, typed):
    page = visit.open()
    visit.read(TEXT)
    label = model["labels"][1]
    number, row = visit.number(label), visit.row(label)
    number.fill(typed)
    expect(row.get_by_role("alert")).to_have_text("A threshold is a number from 0 to 1.")
    expect(number).to_have_attribute("aria-invalid", "true")
    expect(number).to_have_accessible_description("A threshold is a number from 0 to 1.")
    expect(page.get_by_role("button", name="Reset thresholds")).to_be_disabled()
    assert violations(page) == []
    number.blur()
    expect(number).to_have_value(written(model["thresholds"][label]))
    expect(row.get_by_text("A threshold is a number")).to_be_hidden()


def test_keys_move_the_number_by_a_hundredth(visit, model):
    visit.open()
    label = model["labels"][0]
    number = visit.number(label)
    number.fill("0.5")
    for key, now in (("ArrowUp", "0.51"), ("ArrowDown", "0.5"), ("PageDown", "0.4"), ("PageUp", "0.5")):
        number.press(key)
        expect(number).to_have_value(now)
    number.fill("0.995")
    number.press("ArrowUp")
    expect(number).to_have_value("1")
    visit.page.get_by_role("slider").first.focus()
    expect(number).to_have_value("1.000")


def test_known_labels_are_explained_and_your_own_stay_plain(visit, model):
    page = visit.page
    page.route("**/v1/model", lambda route: route.fulfill(json=renamed(model, {"obscene": "spam", "threat": "THREAT"})))
    page.goto(visit.url)
    expect(visit.row("severe_toxic")).to_contain_text("hateful or aggressive in the extreme")
    expect(page.get_by_role("button", name="identity_hate")).to_have_accessible_description(re.compile("what they are"))
    expect(visit.row("THREAT").locator(".meaning")).to_have_text("says or wishes that somebody will be hurt")
    expect(visit.row("spam").locator(".meaning")).to_be_hidden()
    assert violations(page) == []


def renamed(model: dict, names: dict[str, str]) -> dict:
    """The description of a model with other labels' names."""
    text = json.dumps(model)
    for name, other in names.items():
        text = text.replace(json.dumps(name), json.dumps(other))
    return json.loads(text)


def test_the_mouse_moves_a_threshold_only_by_its_knob(visit, model):
    page = visit.open()
    label = model["labels"][0]
    points = np.array(model["curves"]["labels"][label]["threshold"])
    bar = visit.row(label).locator(".bar").bounding_box()
    tuned = model["thresholds"][label]
    y = bar["y"] + bar["height"] / 2
    page.mouse.click(bar["x"] + bar["width"] * (tuned + 0.2 if tuned < 0.5 else tuned - 0.2), y)
    expect(page.get_by_role("button", name="Reset thresholds")).to_be_disabled()
    page.mouse.move(bar["x"] + bar["width"] * tuned, y)
    page.mouse.down()
    page.mouse.move(bar["x"] + bar["width"] * 0.8, y, steps=4)
    page.mouse.up()
    moved = page.evaluate(KEPT)
    assert moved[label] == points[np.abs(points - 0.8).argmin()] != tuned
    assert list(moved) == [label]
    page.get_by_role("button", name="Reset thresholds").click()
    expect(visit.number(label)).to_have_value(written(tuned))


def test_the_sentences_that_caused_a_flag_are_marked_at_their_characters(visit, model):
    page = visit.open()
    found = visit.read(TEXT)
    strongest = max(found["flagged"], key=lambda label: found["probabilities"][label])
    others = [label for label in model["labels"] if label != strongest]
    n_marked = 0
    for label in (None, *others):
        if label is not None:
            page.get_by_role("button", name=label, exact=True).click()
        shown = label or strongest
        expected = [TEXT[s["begin"] : s["end"]] for s in found["sentences"] if shown in s["flagged"]]
        if not expected and shown in found["flagged"]:
            nearest = max(found["sentences"], key=lambda sentence: sentence["probabilities"][shown])
            expected = [TEXT[nearest["begin"] : nearest["end"]]]
        expect(page.locator("mark")).to_have_text(expected)
        n_marked += len(expected)
    assert n_marked >= 2
    assert page.locator("#marks").inner_text().removesuffix("\u200b") == TEXT

    page.get_by_role("button", name=others[-1], exact=True).click()  # nobody's choice: the strongest again
    expect(page.locator("#sentences h2")).to_have_text(f"Sentences for {strongest}")
    button = page.locator("#sentences button").first
    button.click()
    chosen = page.evaluate("document.activeElement.value.slice(...['Start', 'End'].map(n => text['selection' + n]))")
    assert chosen == button.locator("span").inner_text()
    assert chosen in TEXT


def test_marks_stay_with_their_sentences_while_somebody_types(visit):
    page = visit.open()
    visit.read(TEXT)
    marked = page.locator("mark").all_inner_texts()
    page.route("**/v1/predict", lambda route: None)  # no new answer comes
    page.locator("#text").press("Control+Home")
    page.keyboard.type("\N{FAMILY} Oh. ")
    assert page.locator("mark").all_inner_texts() == marked
    page.unroute_all(behavior="ignoreErrors")


def test_the_newest_text_wins_and_older_requests_are_given_up(visit):
    page = visit.open()
    held, given_up = [], []
    page.on("requestfailed", lambda request: given_up.append(request.failure))
    page.route("**/v1/predict", lambda route: held.append(route) if not held else route.continue_())
    with page.expect_request("**/v1/predict"):
        page.fill("#text", "stupid idiot")
    visit.read(CALM)
    assert given_up == ["net::ERR_ABORTED"]


@pytest.mark.parametrize(
    ("status", "words"),
    [(429, "The server is busy"), (None, "The server does not answer"), (503, "stopping or starting")],
)
def test_requests_to_a_busy_server_are_repeated_automatically(browser, server, status, words):
    later = {"Retry-After": "1"}
    for visit in visiting(browser, server.url, allowed="Failed to load resource"):
        page = visit.open()
        visit.read("stupid idiot")
        if status is None:
            page.route("**/v1/predict", lambda route: route.abort(), times=1)
        else:
            page.route("**/v1/predict", lambda route: route.fulfill(status=status, headers=later, json={}), times=1)
        page.fill("#text", CALM)
        expect(page.get_by_role("alert")).to_contain_text(words)
        expect(page.locator("#verdict")).to_have_text("Not scored yet")  # the previous text's result is gone
        expect(page.locator("mark")).to_have_count(0)
        visit.expect_verdict(CALM)
        expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.hostile("page: Retry-After")
@pytest.mark.parametrize(("words", "waits_ms"), [("3402716", 2e9), ("0.001", 1000), ("-5", None)])
def test_a_timer_takes_any_time_to_wait(browser, server, words, waits_ms):
    """A browser that is told to wait for more than 2**31 ms does not wait at all."""

    def refuse(route):
        route.fulfill(status=429, headers={"Retry-After": words}, json={})

    watch = "window.delays = []; const start = setTimeout; "
    watch += "window.setTimeout = (work, ms) => { delays.push(ms); return start(work, ms); };"
    for visit in visiting(browser, server.url, allowed="Failed to load resource"):
        page = visit.page
        page.add_init_script(watch)
        page.route("**/v1/model", refuse)
        page.goto(server.url)
        expect(page.get_by_role("alert")).to_contain_text("The server is busy")
        assert page.evaluate("delays.at(-1)") == pytest.approx(waits_ms or 3000)
        page.unroute("**/v1/model")
        page.route("**/v1/predict", refuse)
        visit.open()
        page.fill("#text", CALM)
        expect(page.get_by_role("alert")).to_contain_text("The server is busy")
        assert page.evaluate("delays.at(-1)") == pytest.approx(waits_ms or 2000, rel=0.01)


def test_errors_that_waiting_does_not_cure_are_shown_and_not_retried(browser, server):
    for visit in visiting(browser, server.url, allowed="Failed to load resource"):
        page = visit.open()
        page.route("**/v1/predict", lambda route: route.fulfill(status=504, json={}), times=1)
        page.fill("#text", CALM)
        expect(page.get_by_role("alert")).to_contain_text("took too long")
        page.get_by_role("button", name="Try again").click()
        visit.expect_verdict(CALM)
        page.fill("#text", "\N{LATIN SMALL LETTER E WITH ACUTE} " * 700_000)  # 2.1 MB
        expect(page.get_by_role("alert")).to_contain_text("longer than the server accepts")


def test_another_language_is_shown(visit):
    page = visit.open()
    flag = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--flag')")
    assert colours_of(page)["flag"] == flag
    for name, text in FOREIGN.items():
        found = visit.read(text)
        doubt = f"Not reliable: the model does not know {name}."
        expect(page.locator("#language")).to_contain_text(f"{name}. The model was trained on English")
        expect(page.locator("#doubt")).to_have_text(doubt)
        verdict = f"Flagged: {', '.join(found['flagged'])}" if found["flagged"] else "Not flagged"
        expect(page.get_by_role("status")).to_have_text(f"{verdict}. {doubt}")
        muted = colours_of(page)
        assert muted["flag"] != flag, "nothing is red"
        assert muted["verdict"] == muted["soft"]
    visit.read("Thank you for everything, we will see you tomorrow at the house of my parents.")
    expect(page.locator("#language")).to_be_hidden()
    expect(page.locator("#doubt")).to_be_hidden()
    assert colours_of(page)["flag"] == flag


FOREIGN = {
    "Spanish": "Muchas gracias por todo, nos vemos mañana en la casa de mis padres.",
    "German": "Das Wetter im Tal war heute Morgen wirklich herrlich, wir gehen jetzt spazieren.",
    "French": "Merci beaucoup pour votre aide, nous nous verrons demain matin à la maison.",
    "Polish": "Dziękuję bardzo za pomoc, zobaczymy się jutro rano w domu moich rodziców.",
}


def colours_of(page: "sync_api.Page") -> dict[str, str]:
    """What flags are drawn in, and the colours of the verdict and of soft text."""
    return page.evaluate(
        "() => ({flag: getComputedStyle(document.querySelector('main')).getPropertyValue('--flag'), "
        "verdict: getComputedStyle(document.querySelector('#verdict')).color, "
        "soft: getComputedStyle(document.querySelector('#origin')).color})"
    )


def test_a_bundle_that_names_no_languages_promises_nothing(visit, model):
    visit.page.route("**/v1/model", lambda route: route.fulfill(json=model | {"languages": []}))
    visit.open()
    visit.read("Muchas gracias por todo, nos vemos mañana en la casa de mis padres.")
    unknown = "Spanish. The languages that the model was trained on are not known"
    expect(visit.page.locator("#language")).to_contain_text(unknown)


@pytest.mark.parametrize("script", [BLOCKED, "localStorage.setItem('moderation-thresholds-VERSION', '{broken');"])
def test_a_browser_that_stores_nothing_or_nonsense_shows_everything_too(visit, model, script):
    page = visit.page
    page.add_init_script(script.replace("VERSION", model["version"]))
    visit.open()
    visit.read(TEXT)
    label = model["labels"][0]
    visit.slider(label).press("End")
    expect(visit.number(label)).to_have_value("1.000")
    page.get_by_role("button", name="Dark").click()
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")


def test_thresholds_are_copied_as_json(browser, server, model):
    permissions = ["clipboard-read", "clipboard-write"]
    for visit in visiting(browser, server.url, permissions=permissions):
        page = visit.open()
        page.get_by_role("button", name="Copy thresholds as JSON").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
        assert copied == {name: model[name] for name in ("model_version", "thresholds")}
        visit.number(model["labels"][0]).fill("0.8")
        expect(page.get_by_role("button", name="Copy thresholds as JSON")).to_be_visible()
        page.get_by_role("button", name="Copy thresholds as JSON").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        copied = json.loads(page.evaluate("navigator.clipboard.readText()"))["thresholds"]
        assert copied == model["thresholds"] | {model["labels"][0]: 0.8}
        assert list(copied) == model["labels"]
        expect(page.get_by_text("moderation serve --thresholds thresholds.json")).to_be_visible()
    for visit in visiting(browser, server.url):  # a clipboard that may not be written
        page = visit.open()
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
        page.get_by_role("button", name="Copy thresholds as JSON").click()
        assert json.loads(page.get_by_label("Thresholds as JSON").input_value())["thresholds"] == model["thresholds"]


def test_a_bundle_without_curves_says_so_and_its_thresholds_can_still_be_moved(visit, model):
    page = visit.page
    page.route("**/v1/model", lambda route: route.fulfill(json=model | {"curves": None}))
    visit.open()
    expect(page.locator("#origin")).to_contain_text("no validation curves")
    label = model["labels"][0]
    expect(visit.row(label).locator(".worth")).to_be_empty()
    visit.slider(label).press("ArrowRight")
    expect(visit.number(label)).to_have_value(f"{model['thresholds'][label] + 0.01:.2f}0")


def test_the_card_is_text_and_nothing_else(visit, model):
    page = visit.page
    card = '# <img src="/x" onerror="alert(1)"> `code`\n\n[a](javascript:alert(1)) **b** [c](https://example.org/)\n\n'
    card += "| <b>h</b> | i |\n| --- | ---: |\n| 1 | <script>2</script> |\n\n"
    card += "- one\n  more\n- two\n\n```html\n<i>x</i>\n```\n"
    page.route("**/v1/model", lambda route: route.fulfill(json=model | {"card": card}))
    visit.open()
    page.locator("#card summary").click()
    expect(page.locator("#card h3")).to_have_text('<img src="/x" onerror="alert(1)"> code')
    expect(page.locator("#card p")).to_have_text("[a](javascript:alert(1)) b c")
    expect(page.locator("#card a")).to_have_attribute("rel", "noopener noreferrer")
    expect(page.locator("#card td")).to_have_text(["1", "<script>2</script>"])
    expect(page.locator("#card li")).to_have_text(["one more", "two"])
    expect(page.locator("#card pre")).to_have_text("<i>x</i>")
    assert page.locator("#card :is(img, script, i, b)").count() == 0


@pytest.mark.parametrize("card", ["| a |\n" * 200_000, "|" * 500_000, "\n" * 200_000 + "end"])
def test_a_card_without_end_is_cut(visit, model, card):
    visit.page.route("**/v1/model", lambda route: route.fulfill(json=model | {"card": "| --- |\n\n" + card}))
    page = visit.open()
    expect(page.locator("#card p").last).to_have_text("The card goes on: see README.md in the bundle.")
    assert page.locator("#card *").count() < 110_000


def test_a_theme_is_the_systems_until_one_is_chosen(browser, server):
    for visit in visiting(browser, server.url, color_scheme="dark"):
        page = visit.open()
        button = page.get_by_role("button", name="Dark")
        background = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(background)
        expect(button).to_have_attribute("aria-pressed", "true")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "false")
        light = page.evaluate(background)
        assert light != dark
        page.reload()
        expect(button).to_have_attribute("aria-pressed", "false")
        assert page.evaluate(background) == light


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, server, model, scheme):
    for visit in visiting(browser, server.url, color_scheme=scheme, reduced_motion="reduce"):
        page = visit.open()
        assert violations(page) == []
        visit.read("Muchas gracias por todo, nos vemos mañana en la casa de mis padres. Stupid idiot, damn them!")
        visit.slider(model["labels"][0]).press("ArrowRight")
        page.locator("#card summary").click()
        page.get_by_role("button", name=model["labels"][1], exact=True).click()
        assert violations(page) == []


def violations(page: "sync_api.Page") -> list[str]:
    found = axe.Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]


def test_a_phone_needs_no_scrolling_sideways(browser, server):
    for visit in visiting(browser, server.url, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True):
        page = visit.open()
        visit.read(f"{TEXT} {'x' * 500}")
        page.locator("#card summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_asks_for_a_key_if_the_server_requires_one(browser, keyed_server):
    server, key = keyed_server
    for visit in visiting(browser, server.url, allowed="401"):
        page = visit.page
        page.goto(server.url)
        expect(page.get_by_label("This server requires an API key.")).to_be_focused()
        assert violations(page) == []
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        field = page.get_by_label("The server does not know this key.")
        field.fill("\N{LEFT DOUBLE QUOTATION MARK}wrong")  # which no header can hold
        page.keyboard.press("Enter")
        page.reload()
        expect(field).to_be_focused()
        field.fill(key)
        page.keyboard.press("Enter")
        expect(page.locator(".labels li").first).to_be_visible()
        expect(page.locator("#key-form")).to_be_hidden()
        page.fill("#text", "stupid idiot")
        expect(page.locator("#verdict")).to_contain_text("Flagged")
        page.reload()  # the tab knows it still
        expect(page.locator(".labels li").first).to_be_visible()
        assert key not in page.evaluate("JSON.stringify(localStorage) + location.href")
        assert not [address for address in visit.asked if key in address]


def test_the_files_are_kept_by_the_browser_and_bound_by_a_policy(server):
    with httpx.Client(base_url=server.url) as client:
        for path, kind in (("/", "html"), ("/page/app.js", "javascript"), ("/page/style.css", "css")):
            answer = client.get(path)
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == f"text/{kind}; charset=utf-8"
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            again = client.get(path, headers={"If-None-Match": f'"other", {answer.headers["ETag"]}'})
            assert (again.status_code, again.content) == (304, b"")
            head = client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["Content-Length"] == str(len(answer.content))
        missing = ("/page/nothing.js", "/page/index.html", "/page/..%2Fpages.py", "/page/")
        assert [client.get(path).status_code for path in missing] == [404] * 4


def test_thresholds_follow_the_language_of_the_text(browser, tiny_bundle, tmp_path):
    with started(make_many(tiny_bundle, tmp_path), tmp_path, "--backend", "onnx") as server:
        visits = visiting(browser, server.url)
        visit = next(visits)
        page = visit.open()
        copy = page.locator("#copy")
        expect(copy).to_be_disabled()  # a threshold that is set holds for every language
        found = visit.read("Vielen Dank für diesen Kommentar, das ist wirklich ein schöner Beitrag geworden.")
        assert found["language"]["code"] == "de"
        expect(visit.number("toxic")).to_have_value(written(0.9999))
        found = visit.read(TURKISH)
        assert len(found["flagged"]) == 6
        expect(visit.number("toxic")).to_have_value(written(0.0001))
        expect(page.locator("#origin")).to_contain_text("These are the thresholds for texts like this one.")
        visit.number("toxic").fill("1")
        expect(visit.row("toxic").locator(".decision")).to_have_text("below")
        expect(copy).to_be_enabled()
        assert page.evaluate(KEPT) == {"toxic": 1}
        visit.read(ENGLISH)
        expect(visit.number("toxic")).to_have_value(written(1.0))
        page.get_by_role("button", name="Reset thresholds").click()
        expect(copy).to_be_disabled()
        next(visits, None)
