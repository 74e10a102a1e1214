// What labels mean, in plain words. Your own labels, not listed here, are shown without a meaning.

const MEANINGS = new Map([
  ["toxic", "rude or hostile enough to make people leave the conversation"],
  ["severe_toxic", "hateful or aggressive in the extreme; plain rudeness does not count"],
  ["obscene", "swear words, or crude talk about sex or the body"],
  ["threat", "says or wishes that somebody will be hurt"],
  ["insult", "belittles a person or a group"],
  ["identity_hate", "attacks people for what they are: origin, religion, sex, disability and the like"],
]);
// Names of the same labels in other data sets.
const SAME = { toxicity: "toxic", severe_toxicity: "severe_toxic", identity_attack: "identity_hate" };

/** What a label means, in words; empty if not known. */
export const meaning = (label) => MEANINGS.get(SAME[label.toLowerCase()] ?? label.toLowerCase()) ?? "";
