// Sentences of a text: their positions, which of them caused a flag, and where they move while somebody keeps typing.

import { reaches } from "./curves.js";

/** Convert offsets: the server counts code points, JavaScript counts UTF-16 units. */
export function inUnits(text, sentences) {
  const units = [0];
  for (const character of text) units.push(units.at(-1) + character.length);
  return sentences.map((sentence) => ({ ...sentence, begin: units[sentence.begin], end: units[sentence.end] }));
}

/**
 * Sentences that reach the label's threshold, in text order. If the whole text reaches it but no single sentence does,
 * the sentence with the highest probability, and `alone` is false.
 */
export function responsible(sentences, label, threshold, isFlagged) {
  const strong = sentences.filter(({ probabilities }) => reaches(probabilities[label], threshold));
  if (strong.length || !isFlagged || !sentences.length) return { found: strong, alone: true };
  const strongest = sentences.reduce((a, b) => (b.probabilities[label] > a.probabilities[label] ? b : a));
  return { found: [strongest], alone: false };
}

/** Sentences that an edit of the text left unchanged, at their new positions. */
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
