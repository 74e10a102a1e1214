// What labels mean, in plain words. Labels of somebody's own that are not listed stay as they are.

const MEANINGS = new Map([
  ["toxic", "rude or hostile enough to make people leave the conversation"],
  ["severe_toxic", "hateful or aggressive in the extreme; plain rudeness does not count"],
  ["obscene", "swear words, or crude talk about sex or the body"],
  ["threat", "says or wishes that somebody will be hurt"],
  ["insult", "belittles a person or a group"],
  ["identity_hate", "attacks people for what they are: origin, religion, sex, disability and the like"],
]);
// Other data sets' names for the same.
const SAME = { toxicity: "toxic", severe_toxicity: "severe_toxic", identity_attack: "identity_hate" };

/** A sentence on what a label means; empty where none is known. */
export const meaning = (label) => MEANINGS.get(SAME[label.toLowerCase()] ?? label.toLowerCase()) ?? "";
