// Elements for texts of models. Nothing is parsed as HTML: every character becomes text.

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.includes("-")) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const HEADING = /^#{1,6}[ \t]+(.+?)[ \t]*#*$/;
const RULE = /^(?:[*_-][ \t]*){3,}$/;
const MARKED = /\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*|(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])/g;

// Bold and emphasis, as in the HTML that the server exports.
function inline(line) {
  const nodes = [];
  let at = 0;
  for (const match of line.matchAll(MARKED)) {
    if (match.index > at) nodes.push(line.slice(at, match.index));
    nodes.push(element(match[1] ? "strong" : "em", {}, match[1] ?? match[2]));
    at = match.index + match[0].length;
  }
  return [...nodes, line.slice(at)];
}

// A text in Markdown as paragraphs, headings and rules.
export function prose(text) {
  const blocks = [];
  for (const block of text.split(/\n\s*\n/)) {
    let lines = [];
    const flush = () => {
      if (lines.length) blocks.push(element("p", { dir: "auto" }, ...lines));
      lines = [];
    };
    for (const raw of block.split("\n")) {
      const line = raw.trim();
      const heading = HEADING.exec(line);
      if (heading || RULE.test(line)) {
        flush();
        blocks.push(heading ? element("h4", {}, ...inline(heading[1])) : element("hr"));
      } else if (line) {
        if (lines.length) lines.push(element("br"));
        lines.push(...inline(line));
      }
    }
    flush();
  }
  return blocks;
}

export const number = (value) => value.toLocaleString("en");

export const plural = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function cost(spent, hasPrice) {
  if (hasPrice) return `$${spent.usd.toFixed(spent.usd < 0.1 ? 4 : 2)} spent`;
  return `${number(spent.prompt_tokens + spent.completion_tokens)} tokens`;
}
