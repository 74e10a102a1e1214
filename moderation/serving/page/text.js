// The text, its highlighted sentences, and facts about it. The highlights lie behind the field, in invisible letters.

import { decimals } from "./curves.js";
import { carryOver, inUnits, responsible } from "./sentences.js";

const N_LISTED = 8;
const names = new Intl.DisplayNames(["en"], { type: "language" });
const counts = new Intl.NumberFormat("en");

export class TextPanel {
  #field = document.getElementById("text");
  #marks = document.getElementById("marks");
  #facts = document.getElementById("facts");
  #language = document.getElementById("language");
  #list = document.getElementById("sentences");
  #text = "";
  #result = null;
  #sentences = [];

  constructor(onInput) {
    this.#field.addEventListener("input", () => {
      this.#sentences = carryOver(this.#sentences, this.#text, this.#field.value);
      this.#text = this.#field.value;
      if (!this.#text.trim()) this.take("", null);
      onInput(this.#text);
    });
  }

  /** The text in the field, even if the browser restored it. */
  get text() {
    return (this.#text = this.#field.value);
  }

  /** Take the result for `text`, which is still in the field; null: no result. */
  take(text, result) {
    this.#result = result;
    this.#sentences = inUnits(text, result?.sentences ?? []);
  }

  /** Highlight and list the sentences that are `label`; null: show none. */
  draw(label, threshold, isFlagged, modelLanguages) {
    const shown = label === null ? { found: [], alone: true } : responsible(this.#sentences, label, threshold, isFlagged);
    this.#drawMarks(shown);
    this.#drawList(label, shown);
    this.#drawFacts();
    this.#drawLanguage(modelLanguages);
  }

  #drawMarks({ found, alone }) {
    const parts = [];
    let place = 0;
    for (const { begin, end } of found) {
      const mark = document.createElement("mark");
      mark.textContent = this.#text.slice(begin, end);
      mark.classList.toggle("weak", !alone);
      parts.push(this.#text.slice(place, begin), mark);
      place = end;
    }
    // The last line break of a block takes up no space unless something follows it.
    this.#marks.replaceChildren(...parts, `${this.#text.slice(place)}\u200b`);
  }

  #drawList(label, { found, alone }) {
    this.#list.hidden = found.length === 0 || this.#sentences.length < 2;
    if (this.#list.hidden) return;
    const [heading, list, note] = this.#list.children;
    heading.textContent = `Sentences for ${label}`;
    const strongest = [...found].sort((a, b) => b.probabilities[label] - a.probabilities[label]).slice(0, N_LISTED);
    list.replaceChildren(...strongest.map((sentence) => this.#item(sentence, label)));
    const more = found.length - strongest.length;
    note.textContent = alone ? (more ? `and ${counts.format(more)} more` : "") : "No single sentence reaches the threshold; this one comes closest.";
  }

  #item(sentence, label) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const probability = document.createElement("b");
    const words = document.createElement("span");
    button.type = "button";
    probability.textContent = decimals(sentence.probabilities[label]);
    words.textContent = this.#text.slice(sentence.begin, sentence.end).trim();
    button.append(probability, words);
    button.addEventListener("click", () => {
      this.#field.focus();
      this.#field.setSelectionRange(sentence.begin, sentence.end);
    });
    item.append(button);
    return item;
  }

  #drawFacts() {
    const n = [...this.#text].length;
    const facts = n ? [plural(n, "character")] : [];
    if (this.#result) {
      const { sentences, n_windows: windows, language } = this.#result;
      if (sentences) facts.push(plural(sentences.length, "sentence"));
      facts.push(windows > 1 ? `read in ${counts.format(windows)} overlapping windows` : "read in 1 window");
      if (language) facts.push(language.code === "und" ? "language unclear" : nameOf(language.code));
    }
    this.#facts.textContent = facts.join(" · ");
  }

  #drawLanguage(modelLanguages) {
    const language = this.#result?.language;
    this.#language.hidden = !language || language.supported;
    if (this.#language.hidden) return;
    const known = modelLanguages.map(nameOf).join(", ");
    const trained = known ? `The model was trained on ${known}` : "The languages that the model was trained on are not known";
    this.#language.textContent = `This looks like ${nameOf(language.code)}. ${trained}: do not rely on its answer.`;
  }
}

const plural = (n, word) => `${counts.format(n)} ${word}${n === 1 ? "" : "s"}`;

/** A language's name in English, or its code if the browser does not know it. */
export function nameOf(code) {
  try {
    return names.of(code);
  } catch {
    return code;
  }
}
