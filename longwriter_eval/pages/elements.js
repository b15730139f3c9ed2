// Elements for the scripts of pages. Model output only ever becomes text nodes.
const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
};

// Markdown as elements that hold text nodes only: headings, lists, quotes, code, bold, italics.
const inline = (text) => text.split(/(\*\*[^*\n]+\*\*|\*[^*\s][^*\n]*\*|`[^`\n]+`)/)
  .map((part, n) => n % 2 === 0 ? part
    : part.startsWith("**") ? element("strong", {}, part.slice(2, -2))
    : part.startsWith("`") ? element("code", {}, part.slice(1, -1))
    : element("em", {}, part.slice(1, -1)));
const markdownOf = (text) => {
  const body = element("div", { class: "response markdown", dir: "auto" });
  const blocks = text.split(/^(```[^\n]*\n[\s\S]*?^```[^\n]*$)/m);
  blocks.forEach((block, n) => {
    if (n % 2) {
      const code = block.split("\n").slice(1, -1).join("\n");
      body.append(element("pre", {}, element("code", {}, code)));
      return;
    }
    let lines = [];
    let into = null;  // an open list
    const close = () => {
      if (lines.length) body.append(element("p", {}, ...inline(lines.join("\n"))));
      lines = [];
    };
    for (const line of block.split("\n")) {
      const heading = /^#{1,6}\s+(.*?)#*\s*$/.exec(line);
      const item = /^\s*(?:([-*+])|(\d{1,9})[.)])\s+(.*)$/.exec(line);
      const quote = /^>\s?(.*)$/.exec(line);
      if (!item) into = null;
      if (heading || item || quote || !line.trim()) close();
      if (heading) body.append(element("h4", {}, ...inline(heading[1])));
      else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) { close(); body.append(element("hr")); }
      else if (item) {
        const tag = item[1] ? "UL" : "OL";
        if (into?.tagName !== tag) {
          into = element(tag.toLowerCase(), item[2] ? { start: item[2] } : {});
          body.append(into);
        }
        into.append(element("li", {}, ...inline(item[3])));
      } else if (quote) body.append(element("blockquote", {}, ...inline(quote[1])));
      else if (line.trim()) lines.push(line);
    }
    close();
  });
  return body;
};
