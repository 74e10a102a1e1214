// Numbers in words, and precision and recall at a threshold on the validation data.

/** The only comparison with a threshold, in float32 as everywhere in the toolkit. */
export const reaches = (probability, threshold) => Math.fround(probability) >= Math.fround(threshold);

/** Three decimals; five close to 0 and 1, where thresholds crowd. */
export function decimals(value) {
  const crowded = (value > 0 && value < 0.0005) || (value < 1 && value >= 0.9995);
  return value.toFixed(crowded ? 5 : 3);
}

/** Index of the point whose threshold is nearest. */
export function nearest(curve, threshold) {
  let best = 0;
  curve.threshold.forEach((value, place) => {
    if (Math.abs(value - threshold) < Math.abs(curve.threshold[best] - threshold)) best = place;
  });
  return best;
}

/** Precision, recall and share flagged at a point of the curve, in words. */
export function worth(curve, place) {
  const { n_positives: positives, precision, recall, flagged } = curve;
  const right = precision[place] === null ? "flags nothing" : `of 100 flagged, ${perHundred(precision[place])} are right`;
  const found = recall[place] === null ? "no examples to find" : `${perHundred(recall[place])} of 100 found`;
  const few = positives < 50 ? `; rough: only ${positives} example${positives === 1 ? "" : "s"}` : "";
  return `${right}; ${found}; flags ${percent(flagged[place])} of comments${few}`;
}

/** A share out of 100; with a decimal if rounding would give 0 or 100. */
function perHundred(share) {
  const value = 100 * share;
  const edge = (value > 0 && value < 1) || (value > 99 && value < 100);
  return value.toFixed(edge ? 1 : 0);
}

function percent(share) {
  const value = 100 * share;
  return `${value >= 10 || value === 0 ? value.toFixed(0) : value >= 0.1 ? value.toFixed(1) : value.toFixed(2)} %`;
}
