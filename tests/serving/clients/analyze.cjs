// Hands lines of JSON, [text, options] each, to the client; prints what it gives, or its error, as lines of JSON.
const readline = require("node:readline");
const Perspective = require("perspective-api-client");

async function main() {
  const client = new Perspective({ apiKey: process.env.MODERATION_KEY });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [text, options] = JSON.parse(line);
    try {
      console.log(JSON.stringify(await client.analyze(text, options)));
    } catch (error) {
      const { name, message, response } = error;
      console.log(JSON.stringify({ name, message, status: response && response.status }));
    }
  }
}

main();
