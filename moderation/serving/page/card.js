// The model card: the subset of Markdown that cards use, as elements. None of its text is ever parsed as HTML.

// Far more than a card needs; a browser would stand still over one without end.
const MAX_CHARACTERS = 100_000;
const MAX_LINES = 2_000;
const MAX_CELLS = 50; // of a row

const RULE = /^\|?(\s*:?-{3,}:?\s*\|)+(\s*:?-{3,}:?\s*)?$/;

/** Elements for a card's text; its headings are two levels lower than in the Markdown. */
export function renderCard(markdown) {
  const text = markdown.slice(0, MAX_CHARACTERS);
  const all = text.replace(/^---\n[\s\S]*?\n---\n/, "").split("\n", MAX_LINES + 1);
  const isCut = text.length < markdown.length || all.length > MAX_LINES;
  const lines = all.slice(0, MAX_LINES).reverse(); // the next one is last: to take it there costs nothing
  const blocks = [];
  while (lines.length) {
    const block = takeBlock(lines);
    if (block) blocks.push(block);
  }
  if (isCut) blocks.push(element("p", ["The card goes on: see README.md in the bundle."]));
  return blocks;
}

function takeBlock(lines) {
  const line = lines.pop();
  if (!line.trim()) return null;
  if (line.startsWith("```")) return codeBlock(takeWhile(lines, (next) => !next.startsWith("```"), true));
  const heading = /^(#{1,4}) (.*)/.exec(line);
  if (heading) return element(`h${heading[1].length + 2}`, inline(heading[2]));
  if (line.startsWith("|")) return table([line, ...takeWhile(lines, (next) => next.startsWith("|"))]);
  if (/^[-*] /.test(line)) return list([line, ...takeWhile(lines, (next) => /^([-*] | +\S)/.test(next))]);
  const more = takeWhile(lines, (next) => next.trim() && !/^(```|#{1,4} |\||[-*] )/.test(next));
  return element("p", inline([line, ...more].join(" ")));
}

function takeWhile(lines, holds, dropNext = false) {
  const taken = [];
  while (lines.length && holds(lines.at(-1))) taken.push(lines.pop());
  if (dropNext) lines.pop();
  return taken;
}

function codeBlock(lines) {
  const block = element("pre", [element("code", [lines.join("\n")])]);
  block.tabIndex = 0; // it may scroll
  return block;
}

function list(lines) {
  const items = [];
  for (const line of lines) {
    if (/^[-*] /.test(line)) items.push(line.slice(2));
    else items[items.length - 1] += ` ${line.trim()}`;
  }
  return element("ul", items.map((item) => element("li", inline(item))));
}

function table(lines) {
  const [header = [], ...rows] = lines.filter((line) => !RULE.test(line.trim())).map(cells);
  const head = element("tr", header.map((cell) => Object.assign(element("th", inline(cell)), { scope: "col" })));
  const body = rows.map((row) => element("tr", row.map((cell) => element("td", inline(cell)))));
  const frame = element("div", [element("table", [element("thead", [head]), element("tbody", body)])]);
  frame.className = "scroll";
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", `Table: ${header.join(", ")}`);
  return frame;
}

/** Cells of a row; a pipe after a backslash is part of a cell. */
const cells = (line) =>
  line
    .replaceAll("\\|", "\0")
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|", MAX_CELLS)
    .map((cell) => cell.trim().replaceAll("\0", "\\|"));

/** Code, bold and links within a line; a character after a backslash is taken literally. */
function inline(text) {
  return text.split(/(\\[!-/:-@[-`{-~]|`[^`]+`|\*\*[^*]+\*\*|\[[^[\]]{1,500}\]\(https?:\/\/[^)\s]{1,2000}\))/).map((part, place) => {
    if (place % 2 === 0) return part;
    if (part.startsWith("\\")) return part.slice(1);
    if (part.startsWith("`")) return element("code", [part.slice(1, -1)]);
    if (part.startsWith("**")) return element("strong", [part.slice(2, -2)]);
    const [, words, address] = /^\[([^\]]+)\]\(([^)]+)\)$/.exec(part);
    return Object.assign(element("a", [words]), { href: address, rel: "noopener noreferrer", target: "_blank" });
  });
}

function element(name, children) {
  const made = document.createElement(name);
  for (const child of children) made.append(child); // as arguments, there could be too many
  return made;
}
