// One row per label: its probability, its threshold, which can be moved, and precision and recall at that threshold.

import { decimals, nearest, reaches, worth } from "./curves.js";
import { meaning } from "./words.js";

const STEP = 0.01;
const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -1e9, End: 1e9 };
const NUMBER_KEYS = { ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

export class LabelPanel {
  #model;
  #rows = new Map();
  #tuned; // label -> threshold that decides about this text unless it was moved
  #moved = Object.create(null); // a label may be called __proto__
  hasCurves = true; // whether precision and recall are known for the thresholds of this text
  #chosen = null;
  #onChange;

  /** @param kept thresholds of an earlier visit, label -> number; invalid ones are ignored. */
  constructor(model, kept, onChange) {
    this.#model = model;
    this.#onChange = onChange;
    this.#tuned = model.thresholds;
    for (const label of model.labels) {
      if (kept[label] >= 0 && kept[label] <= 1 && kept[label] !== this.#tuned[label]) this.#moved[label] = kept[label];
    }
    document.querySelector(".labels").replaceChildren(...model.labels.map((label) => this.#makeRow(label)));
  }

  /** Label -> threshold, in label order. */
  get thresholds() {
    return Object.fromEntries(this.#model.labels.map((label) => [label, this.#at(label)]));
  }

  /** The thresholds that were moved. */
  get moved() {
    return { ...this.#moved };
  }

  get isMoved() {
    return Object.keys(this.#moved).length > 0;
  }

  reset() {
    this.#moved = Object.create(null);
    this.#onChange();
  }

  /** Take the thresholds of a text, which depend on its language; none: the model's. The curves are the first model's. */
  use(thresholds, isFirst) {
    this.#tuned = thresholds ?? this.#model.thresholds;
    this.hasCurves = isFirst && this.#model.labels.every((label) => this.#tuned[label] === this.#model.thresholds[label]);
  }

  #at(label) {
    return Object.hasOwn(this.#moved, label) ? this.#moved[label] : this.#tuned[label];
  }

  #set(label, threshold) {
    this.#moved[label] = threshold;
    if (threshold === this.#tuned[label]) delete this.#moved[label];
    this.#onChange();
  }

  flagged(probabilities) {
    return this.#model.labels.filter((label) => reaches(probabilities[label], this.#at(label)));
  }

  /** The label whose sentences are shown: the chosen one, else the most probable flagged one, else null. */
  shown(probabilities) {
    if (this.#chosen || !probabilities) return this.#chosen;
    const flagged = this.flagged(probabilities).sort((a, b) => probabilities[b] - probabilities[a]);
    return flagged[0] ?? null;
  }

  /** Draw all rows; without probabilities (no text scored yet), only the thresholds. */
  draw(probabilities) {
    const shown = this.shown(probabilities);
    for (const label of this.#model.labels) {
      this.#drawRow(label, probabilities?.[label]);
      this.#rows.get(label).row.classList.toggle("shown", label === shown);
    }
  }

  #makeRow(label) {
    const row = document.getElementById("label-row").content.cloneNode(true).firstElementChild;
    const part = (name) => row.querySelector(name);
    const name = part(".name");
    const range = part("input[type=range]");
    const number = part(".number");
    name.textContent = label;
    name.title = "Highlight this label's sentences";
    name.addEventListener("click", () => {
      this.#chosen = this.#chosen === label ? null : label;
      this.#onChange();
    });
    part(".back").addEventListener("click", () => {
      this.#set(label, this.#tuned[label]);
      range.focus();
    });
    part(".bar").setAttribute("aria-label", `Probability of ${label}`);
    range.setAttribute("aria-label", `Threshold of ${label}`);
    range.addEventListener("input", () => this.#move(label, Number(range.value)));
    range.addEventListener("keydown", (event) => this.#step(label, event));
    part(".meaning").textContent = meaning(label);
    part(".meaning").hidden = !meaning(label);
    part(".meaning").id = `meaning-${this.#rows.size}`;
    part(".fault").id = `fault-${this.#rows.size}`;
    if (meaning(label)) name.setAttribute("aria-describedby", part(".meaning").id);
    number.setAttribute("aria-label", `Threshold of ${label} as a number`);
    number.addEventListener("input", () => this.#type(label, number));
    number.addEventListener("keydown", (event) => this.#stepNumber(label, number, event));
    number.addEventListener("blur", () => this.#leave(label, number));
    this.#rows.set(label, { row, part });
    return row;
  }

  /** A label may be called like something that every object has. */
  #curveOf(label) {
    const labels = this.hasCurves ? this.#model.curves?.labels : undefined;
    return labels && Object.hasOwn(labels, label) ? labels[label] : undefined;
  }

  /** Move to the nearest point of the curve: nothing is known between two points. */
  #move(label, value) {
    const curve = this.#curveOf(label);
    this.#set(label, curve ? curve.threshold[nearest(curve, value)] : Math.round(value / STEP) * STEP);
  }

  /** Arrow keys move from point to point, however close together the points are. */
  #step(label, event) {
    const steps = KEYS[event.key];
    if (!steps || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const curve = this.#curveOf(label);
    const now = this.#at(label);
    const points = curve?.threshold;
    const place = curve ? Math.min(Math.max(nearest(curve, now) + steps, 0), points.length - 1) : 0;
    this.#move(label, curve ? points[place] : Math.min(Math.max(now + steps * STEP, 0), 1));
  }

  /** Take a typed number as it is, even between two points of the curve; ignore invalid input. */
  #type(label, number) {
    this.#complain(label, number, !number.validity.valid);
    if (!number.validity.valid) return;
    this.#set(label, number.valueAsNumber);
  }

  #complain(label, number, isWrong) {
    const { part } = this.#rows.get(label);
    part(".fault").hidden = !isWrong;
    number.setAttribute("aria-invalid", String(isWrong));
    if (isWrong) number.setAttribute("aria-describedby", part(".fault").id);
    else number.removeAttribute("aria-describedby");
  }

  #stepNumber(label, number, event) {
    if (event.key === "Enter") number.blur();
    const steps = NUMBER_KEYS[event.key];
    if (!steps || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const to = Math.min(Math.max(this.#at(label) + steps * STEP, 0), 1);
    number.value = Number(to.toFixed(5));
    this.#type(label, number);
  }

  /** When the field loses focus, replace invalid input with the current threshold. */
  #leave(label, number) {
    this.#complain(label, number, false);
    number.value = this.#written(label);
  }

  /** Precision and recall at the threshold; for a number typed between two points of the curve, at the nearer point. */
  #worth(curve, threshold) {
    const place = nearest(curve, threshold);
    const point = decimals(curve.threshold[place]);
    return `${point === decimals(threshold) ? "" : `near ${point}: `}${worth(curve, place)}`;
  }

  #written(label) {
    const threshold = this.#at(label);
    const short = decimals(threshold);
    const typed = Number(threshold.toFixed(4)); // the model's own thresholds have many digits: show only the first
    return typed === threshold && String(typed).length > short.length ? String(typed) : short;
  }

  #drawRow(label, probability) {
    const { row, part } = this.#rows.get(label);
    const threshold = this.#at(label);
    const tuned = this.#tuned[label];
    const known = probability !== undefined;
    const isFlagged = known && reaches(probability, threshold);
    const decision = isFlagged ? "flagged" : known ? "below" : "";
    row.classList.toggle("flagged", isFlagged);
    part(".name").setAttribute("aria-pressed", String(this.#chosen === label));
    part(".decision").textContent = decision;
    part(".probability").textContent = known ? decimals(probability) : "–";

    const bar = part(".bar");
    bar.style.setProperty("--share", known ? probability : 0);
    bar.setAttribute("aria-valuenow", known ? probability.toFixed(3) : 0);
    bar.setAttribute("aria-valuetext", known ? `${decimals(probability)}, ${decision}` : "not scored yet");

    const moved = threshold !== tuned;
    part(".back").hidden = !moved;
    part(".back").textContent = `reset to ${decimals(tuned)}`;
    part(".back").setAttribute("aria-label", `reset to ${decimals(tuned)}, the tuned threshold of ${label}`);
    part(".tuned").hidden = !moved;
    part(".tuned").style.setProperty("--share", tuned);
    const curve = this.#curveOf(label);
    const words = curve ? this.#worth(curve, threshold) : "";
    part(".worth").textContent = words;
    const number = part(".number");
    if (number !== document.activeElement) number.value = this.#written(label); // leave a number alone while it is being typed
    const range = part("input[type=range]");
    range.value = threshold;
    range.setAttribute("aria-valuetext", words ? `${decimals(threshold)}: ${words}` : decimals(threshold));
  }
}
