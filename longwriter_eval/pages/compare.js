// Fills the tables from the page's data. All text from submissions is set as text, never as HTML.
(() => {
  const rankings = JSON.parse(document.getElementById("data").textContent);
  if (!rankings.length) return;
  const at = (id) => document.getElementById(id);
  const controls = { ranking: at("ranking"), a: at("a"), b: at("b"), prompt: at("prompt"), model: at("model") };
  const UNTESTED = 65535, SIGNIFICANT = 500;  // in units of 0.0001

  const make = (tag, content = "", attributes = {}) => {
    const made = document.createElement(tag);
    made.append(...[content].flat());
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const S = (letter) => ["S", make("sub", letter)];
  const link = (text, address) => make("a", make("bdi", text), { href: address });
  const number = (value, digits = 1) => value === null || value === undefined ? "–"
    : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })
      .replace("-", "−");
  const signed = (value) => value === null ? "–" : `${value > 0 ? "+" : ""}${number(value)}`;
  // The first cell of a row is its heading.
  const fill = (table, heads, rows, caption) => {
    const head = make("tr", heads.map((text, i) => make("th", text, { scope: "col", class: i ? "" : "name" })));
    const body = rows.map(([first, ...cells]) => make("tr", [
      make("th", first, { scope: "row", class: "name" }),
      ...cells.map((cell) => cell instanceof HTMLTableCellElement ? cell : make("td", cell)),
    ]));
    table.replaceChildren(make("caption", caption, { class: "unseen" }), make("thead", head), make("tbody", body));
  };
  const options = (select, list, chosen) => {
    select.replaceChildren(...list.map(([value, text]) => make("option", text, { value })));
    if (list.some(([value]) => value === chosen)) select.value = chosen;
  };

  const current = () => rankings.find((ranking) => ranking.key === controls.ranking.value) ?? rankings[0];
  const isJudged = () => current().metric === "overall_score";
  const main = () => isJudged() ? ["S̄"] : S("l");
  const name = (entry) => {
    const same = current().entries.filter((other) => other.model === entry.model).length > 1;
    return same ? `${entry.model} (${entry.date}, ${entry.id.slice(0, 6)})` : entry.model;
  };
  const score = (values) => !values ? null : isJudged()
    ? (values[1] === null ? null : (values[0] + values[1]) / 20) : values[0] / 10;
  const tenth = (value) => value === null || value === undefined ? null : value / 10;

  const decoded = new Map();
  const codes = (scope) => {
    if (!decoded.has(scope)) {
      const bytes = Uint8Array.from(atob(scope.p), (character) => character.charCodeAt(0));
      decoded.set(scope, new DataView(bytes.buffer));
    }
    return decoded.get(scope);
  };
  // The corrected p-value of a pair, in units of 0.0001: the upper triangle, row by row.
  const tested = (scope, one, other, count) => {
    const [i, j] = one < other ? [one, other] : [other, one];
    if (i === j) return UNTESTED;
    return codes(scope).getUint16(2 * (i * (2 * count - i - 1) / 2 + j - i - 1), true);
  };

  const showTwo = () => {
    const ranking = current(), { entries } = ranking;
    const [i, j] = ["a", "b"].map((side) => entries.findIndex((entry) => entry.id === controls[side].value));
    const [a, b] = [entries[i], entries[j]];
    const claims = ranking.scopes.map((scope) => {
      const code = tested(scope, i, j, entries.length);
      const [x, y] = [scope.means[i], scope.means[j]];
      const difference = x === null || y === null ? null : y - x;
      const isClaim = code < SIGNIFICANT && difference !== null;
      return { scope, x, y, difference, code, winner: isClaim ? (difference > 0 ? "B" : "A") : null };
    });
    fill(at("groups"), ["Prompts", "n", ["A: ", ...main()], ["B: ", ...main()], "B − A", "p", "Claim"],
      claims.map(({ scope, x, y, difference, code, winner }) => [
        scope.title, number(scope.n, 0), number(x), number(y), signed(difference),
        code === UNTESTED ? "–" : code === 0 ? "< 0.0001" : number(code / 10000, 4),
        make("td", winner ? `${winner} is higher` : "–", { class: "claim" }),
      ]), "Scores of both models by group of prompts, and the paired test");
    const all = claims[0], better = all.winner === "A" ? a : b;
    at("verdict").replaceChildren(...(i === j ? ["Choose two models."] : all.winner
      ? [make("bdi", name(better)), ` scores higher over the same ${all.scope.n} prompts: `, ...main(),
        ` ${number(all.winner === "A" ? all.x : all.y)} against ${number(all.winner === "A" ? all.y : all.x)}.`]
      : [`The test over the same ${all.scope.n} prompts does not tell the two apart: `, ...main(),
        ` ${number(all.x)} and ${number(all.y)}.`]));
    const pairs = ranking.prompts.map((prompt, place) => {
      const [x, y] = [a.values[place], b.values[place]];
      const [u, v] = [score(x), score(y)];
      return { prompt, x, y, u, v, difference: u === null || v === null ? null : v - u };
    });
    pairs.sort((one, other) => Math.abs(other.difference ?? 0) - Math.abs(one.difference ?? 0));
    fill(at("pairs"), ["Prompt", ["A: ", ...main()], ["B: ", ...main()], "B − A",
      ...["l", ...(isJudged() ? ["q"] : [])].flatMap((letter) => [["A: ", ...S(letter)], ["B: ", ...S(letter)]]),
      "A: words", "B: words"],
    pairs.map(({ prompt, x, y, u, v, difference }) => [
      [prompt.id, make("small", `${prompt.type} · ${prompt.bucket} words · ${prompt.language}`)],
      link(number(u), `${a.report}#${prompt.id}`), link(number(v), `${b.report}#${prompt.id}`),
      signed(difference), number(tenth(x?.[0])), number(tenth(y?.[0])),
      ...(isJudged() ? [number(tenth(x?.[1])), number(tenth(y?.[1]))] : []),
      number(x?.[2], 0), number(y?.[2], 0),
    ]), "Scores of both models by prompt");
  };

  const showPrompt = () => {
    const ranking = current();
    const place = Math.max(0, ranking.prompts.findIndex((prompt) => prompt.id === controls.prompt.value));
    const lines = ranking.entries.map((entry) => ({ entry, values: entry.values[place] }));
    lines.sort((one, other) => (score(other.values) ?? -1) - (score(one.values) ?? -1));
    fill(at("responses"), ["Model", ...(isJudged() ? ["S̄", S("l"), S("q")] : [S("l")]), "Words"],
      lines.map(({ entry, values }) => [
        link(name(entry), `${entry.report}#${ranking.prompts[place].id}`),
        ...(isJudged() ? [number(score(values))] : []), number(tenth(values?.[0])),
        ...(isJudged() ? [number(tenth(values?.[1]))] : []), number(values?.[2], 0),
      ]), "Scores of all models for one prompt");
  };

  const showHistory = () => {
    const lines = rankings.flatMap((ranking) => ranking.entries
      .filter((entry) => entry.model === controls.model.value).map((entry) => ({ ranking, entry })));
    lines.sort((one, other) => one.entry.date.localeCompare(other.entry.date));
    const cell = (values, digits = 1) => values?.[0] == null ? "–" : [number(values[0], digits),
      values[1] === null ? "" : make("small", `${number(values[1], digits)}–${number(values[2], digits)}`)];
    fill(at("submissions"), ["Submission", "Rank", "S̄", S("l"), S("q"), "Words", "Longest"],
      lines.map(({ ranking, entry }) => [
        [link(entry.date, entry.report), make("small", make("bdi", ranking.title)),
          make("small", make("bdi", entry.submitter))],
        entry.rank ? [...new Set(entry.rank)].join("–") + ` of ${ranking.entries.length}` : "–",
        cell(entry.scores.overall_score), cell(entry.scores.length_score),
        cell(entry.scores.quality_score), cell(entry.scores.output_words, 0), number(entry.longest, 0),
      ]), "All submissions of a model");
  };

  // The choice is in the address: #ranking=…&a=…&b=…&prompt=…&model=…
  const remember = () => {
    const chosen = Object.entries(controls).map(([key, control]) => [key, control.value]);
    history.replaceState(null, "", `#${new URLSearchParams(chosen)}`);
  };
  const models = [...new Set(rankings.flatMap((ranking) => ranking.entries.map((entry) => entry.model)))];
  models.sort((one, other) => one.localeCompare(other));
  const choose = (wanted = new URLSearchParams()) => {
    if (rankings.some((ranking) => ranking.key === wanted.get("ranking"))) controls.ranking.value = wanted.get("ranking");
    const ranking = current(), list = ranking.entries.map((entry) => [entry.id, name(entry)]);
    const a = wanted.get("a") ?? list[0][0];
    options(controls.a, list, a);
    options(controls.b, list, wanted.get("b") ?? (list.find(([id]) => id !== a) ?? list[0])[0]);
    options(controls.prompt, ranking.prompts.map((prompt) =>
      [prompt.id, `${prompt.id} · ${prompt.type} · ${prompt.bucket} words`]), wanted.get("prompt"));
    const entry = ranking.entries.find((other) => other.id === controls.a.value);
    options(controls.model, models.map((model) => [model, model]), wanted.get("model") ?? entry.model);
    showTwo(); showPrompt(); showHistory();
  };
  const follow = () => {
    if (location.hash.length < 2 || location.hash.includes("=")) choose(new URLSearchParams(location.hash.slice(1)));
  };

  controls.ranking.addEventListener("input", () => { choose(); remember(); });
  for (const [key, show] of [["a", showTwo], ["b", showTwo], ["prompt", showPrompt], ["model", showHistory]]) {
    controls[key].addEventListener("input", () => { show(); remember(); });
  }
  for (const form of document.querySelectorAll("form")) form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", follow);
  choose(new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : ""));
})();
