// The page: it sends a text to the server and draws the answer. Thresholds moved here apply only to this page.

import { renderCard } from "./card.js";
import { LabelPanel } from "./labels.js";
import { Reader } from "./reader.js";
import { ask, Refusal, useKey } from "./server.js";
import { nameOf, TextPanel } from "./text.js";

const at = (id) => document.getElementById(id);
const state = { model: null, result: null, loading: false };
let labels = null;

const texts = new TextPanel((text) => {
  if (!text.trim()) state.result = null;
  reader.read(text);
  draw();
});

const reader = new Reader({
  start: () => document.querySelector("main").setAttribute("aria-busy", "true"),
  result(text, answer) {
    settle();
    state.result = answer.results[0];
    texts.take(text, state.result);
    if (answer.model_version !== state.model?.model_version) load(); // the model changed since the page was opened
    draw();
  },
  refused(refusal, waitS) {
    state.result = null; // never show the result of an earlier text
    texts.take("", null);
    draw();
    explain(refusal, waitS);
  },
});

/** Thresholds that were moved on an earlier visit; none if the browser stored nothing, or something unreadable. */
function kept(version) {
  try {
    return JSON.parse(localStorage.getItem(`moderation-thresholds-${version}`)) ?? {};
  } catch {
    return {};
  }
}

/** Fetch the model's description; then score the text in the field, if there is one (after a reload). */
async function load() {
  if (state.loading) return;
  state.loading = true;
  try {
    const model = await ask("v1/model");
    settle();
    state.model = model;
    labels = new LabelPanel(model, kept(model.version), keep);
    describe(model);
    if (texts.text.trim() && !state.result) reader.again();
    draw();
  } catch (error) {
    const again = error instanceof Refusal && [0, 429, 502, 503].includes(error.status);
    const waitS = again ? (error.retryAfterS ?? 3) : null;
    if (again) setTimeout(load, 1000 * waitS);
    explain(error, waitS);
  } finally {
    state.loading = false;
  }
}

function describe(model) {
  at("model").textContent = model.model_version;
  at("model").title = `SHA-256 of the bundle: ${model.version}`;
  document.querySelector(".tools").hidden = document.querySelector(".hint").hidden = at("card").hidden = false;
  at("card").lastElementChild.replaceChildren(...renderCard(model.card ?? ""));
}

/** Whether thresholds depend on the text's language. */
function isRouted() {
  const { models } = state.model;
  return models.length > 1 || Object.keys(models[0].thresholds_by_language).length > 0;
}

function describeOrigin() {
  const { curves } = state.model;
  const known = !curves
    ? "This bundle has no validation curves: precision and recall at a threshold are not known."
    : labels.hasCurves
      ? `Precision and recall on ${curves.n_examples.toLocaleString("en")} comments of the validation split.`
      : "These are the thresholds for texts like this one. What precision and recall they have is in the model's card.";
  return `${known} Thresholds that you move apply only in this browser.`;
}

/** Store a value in this browser, or remove it (null); does nothing if the browser refuses. */
function remember(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    // Then the value lasts until the page is closed.
  }
}

/** A threshold moved, or another label was chosen. */
function keep() {
  const name = `moderation-thresholds-${state.model.version}`;
  remember(name, labels.isMoved ? JSON.stringify(labels.moved) : null);
  at("json").hidden = true;
  draw();
}

function draw() {
  if (!labels) return;
  const probabilities = state.result?.probabilities ?? null;
  const reader = state.result?.model_version ?? state.model.models[0].model_version;
  labels.use(state.result?.thresholds, reader === state.model.models[0].model_version);
  at("origin").textContent = describeOrigin();
  at("model").textContent = state.result?.model_version ?? state.model.model_version;
  const flagged = probabilities ? labels.flagged(probabilities) : [];
  const shown = labels.shown(probabilities);
  labels.draw(probabilities);
  texts.draw(probabilities ? shown : null, labels.thresholds[shown], flagged.includes(shown), state.model.languages);
  at("reset").disabled = !labels.isMoved;
  at("copy").disabled = isRouted() && !labels.isMoved; // nothing that would suit every language
  const verdict = !probabilities ? texts.text.trim() ? "Not scored yet" : "No text" : flagged.length ? `Flagged: ${flagged.join(", ")}` : "Not flagged";
  at("verdict").textContent = verdict;
  at("verdict").classList.toggle("flagged", flagged.length > 0);
  const doubt = drawDoubt();
  const said = doubt ? `${verdict}. ${doubt}` : verdict;
  if (probabilities && at("status").textContent !== said) at("status").textContent = said; // announced when it changes
}

/** If the model does not know the text's language, mute the answer and return a warning; otherwise "". */
function drawDoubt() {
  const language = state.result?.language;
  const doubt = language && !language.supported ? `Not reliable: the model does not know ${nameOf(language.code)}.` : "";
  document.querySelector("main").classList.toggle("unsure", doubt !== "");
  at("doubt").textContent = doubt;
  at("doubt").hidden = !doubt;
  return doubt;
}

/** An answer came: hide earlier messages. */
function settle() {
  document.querySelector("main").removeAttribute("aria-busy");
  at("message").hidden = true;
  at("key-form").hidden = true;
}

/** Show what went wrong and what happens next. */
function explain(refusal, waitS) {
  document.querySelector("main").removeAttribute("aria-busy");
  if (!(refusal instanceof Refusal)) throw refusal;
  if (refusal.status === 401 || refusal.status === 403) return askForKey(refusal);
  const soon = waitS === null ? "" : ` Trying again in ${waitS} s.`;
  const words = {
    0: `The server does not answer.${soon}`,
    413: "This text is longer than the server accepts. Try a part of it.",
    429: `The server is busy, or this key has reached its request limit.${soon}`,
    503: `The server is stopping or starting.${soon}`,
    504: "The server took too long for this text.",
  };
  at("message").firstElementChild.textContent = words[refusal.status] ?? `${refusal.message}${soon}`;
  at("message").lastElementChild.hidden = waitS !== null || refusal.status === 413;
  at("message").hidden = false;
  return undefined;
}

function askForKey({ kind }) {
  at("message").hidden = true;
  at("key-form").firstElementChild.textContent =
    kind === "unauthorized" ? "This server requires an API key." : "The server does not know this key.";
  if (at("key-form").hidden) at("key").value = "";
  at("key-form").hidden = false;
  at("key").focus();
}

async function copyThresholds() {
  const { model_version: version } = state.model;
  // Set for a server, a threshold holds for every language: leave out those that nobody moved.
  const copied = { model_version: version, thresholds: isRouted() ? labels.moved : labels.thresholds };
  const text = JSON.stringify(copied, null, 2);
  try {
    await navigator.clipboard.writeText(text);
    at("status").textContent = "Thresholds copied";
    at("copy").textContent = "Copied";
    setTimeout(() => (at("copy").textContent = "Copy thresholds as JSON"), 1500);
  } catch {
    // A page may write to the clipboard only over https or on this machine. Otherwise show the JSON for people to copy.
    Object.assign(at("json"), { hidden: false, value: text, rows: text.split("\n").length });
    at("json").select();
  }
}

function wireTheme() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const current = () => root.dataset.theme ?? (system.matches ? "dark" : "light");
  const show = () => at("theme").setAttribute("aria-pressed", String(current() === "dark"));
  at("theme").addEventListener("click", () => {
    root.dataset.theme = current() === "dark" ? "light" : "dark";
    remember("moderation-theme", root.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();
}

at("message").lastElementChild.addEventListener("click", () => (state.model ? reader.again() : load()));
at("reset").addEventListener("click", () => labels?.reset());
at("copy").addEventListener("click", () => labels && copyThresholds());
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value.trim());
  if (state.model) reader.again();
  else load();
});
wireTheme();
load();
