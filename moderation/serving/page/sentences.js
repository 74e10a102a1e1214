// Sentences of a text: where they stand, which of them did it, and where they went while somebody goes on writing.

import { reaches } from "./curves.js";

/** The server counts code points, JavaScript counts UTF-16 units: the same sentences with `begin` and `end` in units. */
export function inUnits(text, sentences) {
  const units = [0];
  for (const character of text) units.push(units.at(-1) + character.length);
  return sentences.map((sentence) => ({ ...sentence, begin: units[sentence.begin], end: units[sentence.end] }));
}

/**
 * Sentences that reach the label's threshold, in the order of the text. Where the text reaches it and no sentence does
 * alone, the strongest one, and `alone` is false.
 */
export function responsible(sentences, label, threshold, isFlagged) {
  const strong = sentences.filter(({ probabilities }) => reaches(probabilities[label], threshold));
  if (strong.length || !isFlagged || !sentences.length) return { found: strong, alone: true };
  const strongest = sentences.reduce((a, b) => (b.probabilities[label] > a.probabilities[label] ? b : a));
  return { found: [strongest], alone: false };
}

/** Sentences that a change of the text left whole, at their new places. */
export function carryOver(sentences, before, after) {
  const shorter = Math.min(before.length, after.length);
  let head = 0;
  while (head < shorter && before[head] === after[head]) head += 1;
  let tail = 0;
  while (tail < shorter - head && before.at(-1 - tail) === after.at(-1 - tail)) tail += 1;
  const moved = after.length - before.length;
  return sentences.flatMap((sentence) => {
    if (sentence.end <= head) return [sentence];
    if (sentence.begin < before.length - tail) return [];
    return [{ ...sentence, begin: sentence.begin + moved, end: sentence.end + moved }];
  });
}
