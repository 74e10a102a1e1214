// As a page or a bot without a library does it: fetch with a string, which names no type but plain text.
// Reads lines of JSON, each a text; prints for each the status and the sentences as the answer's offsets cut them out.
const readline = require("node:readline");

async function main() {
  const { MODERATION_URL, MODERATION_KEY } = process.env;
  const url = `${MODERATION_URL}/v1alpha1/comments:analyze?key=${MODERATION_KEY}`;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const text = JSON.parse(line);
    const asked = { comment: { text }, requestedAttributes: { TOXICITY: {} }, languages: ["en"], spanAnnotations: true };
    const answer = await fetch(url, { method: "POST", body: JSON.stringify(asked) });
    const content = await answer.json();
    const spans = content.attributeScores ? content.attributeScores.TOXICITY.spanScores : [];
    const sentences = spans.map(({ begin, end }) => text.slice(begin, end));
    console.log(JSON.stringify({ status: answer.status, sentences, error: content.error }));
  }
}

main();
