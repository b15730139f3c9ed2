// The list of prompts and the reader. Model output only ever becomes text nodes.
(() => {
  const { runs, dimensions, prompts, markEvery } = JSON.parse(
    document.getElementById("listed").textContent,
  );
  const browser = document.getElementById("browser");
  const filters = document.getElementById("filters");
  const list = document.getElementById("list");
  const reader = document.getElementById("reader");

  const number = (value, digits = 1) => value === null ? "–" : value.toLocaleString(
    "en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const sub = (letter) => element("span", {}, "S", element("sub", {}, letter));
  const shape = (run) => element("span", { class: `run-${run % 6 + 1}` },
    element("span", { class: "shape", "aria-hidden": "true" }, "●■◆▲▼✚"[run % 6]), " ");
  const runName = (run) => {
    const name = shape(run);
    name.append(element("bdi", {}, runs[run]));
    return name;
  };

  // Filters: name, label, options, and whether a prompt matches an option. A prompt with several
  // responses matches if any of them does.
  const some = (test) => (prompt, value) => prompt.runs.some((run) => run && test(run, value));
  const bands = [["0", "under 40"], ["40", "40–60"], ["60", "60–75"], ["75", "75–90"], ["90", "90–100"]];
  const ends = [40, 60, 75, 90, Infinity];
  const inBand = (score, value) => value === "none" ? score === null
    : score !== null && score >= +value && score < ends[bands.findIndex(([start]) => start === value)];
  const values = (read) => [...new Set(prompts.flatMap(read))];
  const isJudged = prompts.some((prompt) => prompt.runs.some((run) => run && run.overall !== null));
  const byScore = isJudged ? ["Overall score", "overall"] : ["Length score", "length"];
  const filterSpecs = [
    ["benchmark", "Benchmark", values((p) => p.benchmark), (p, v) => p.benchmark === v],
    ["bucket", "Required words", values((p) => p.bucket), (p, v) => p.bucket === v],
    ["language", "Language", values((p) => p.language), (p, v) => p.language === v],
    ["type", "Type", values((p) => p.type).sort(), (p, v) => p.type === v],
    ["status", "Verdict", values((p) => p.runs.map((r) => r ? r.status : null))
      .filter((status) => status !== null), some((r, v) => r.status === v)],
    ["score", byScore[0], [...bands, ["none", "none"]],
      some((r, v) => inBand(r[byScore[1]], v))],
    ["fault", "Fault", [["any", "any"], ...values((p) => p.runs.flatMap((r) => r ? r.faults : []))
      .map((f) => [f, f])], some((r, v) => v === "any" ? r.faults.length : r.faults.includes(v))],
  ].filter(([, , options]) => options.length > 1);
  const orders = [
    ["", "benchmark order"], ["required", "required words"], ["words", "produced words"],
    ["length", "length score"], ["quality", "quality score"],
    ["overall", "overall score"], ["repetition", "repetition"],
  ];

  const select = (name, label, options) => {
    const control = element("select", { name });
    for (const option of options) {
      const [value, text] = Array.isArray(option) ? option : [option, option];
      control.append(element("option", { value }, text));
    }
    filters.append(element("label", {}, label, control));
    return control;
  };
  const search = element("input", { type: "search", name: "q", autocomplete: "off" });
  filters.append(element("label", {}, "Search prompts and responses", search));
  const controls = filterSpecs.map(([name, label, options, keeps]) =>
    [select(name, label, [["", "all"], ...options]), keeps]);
  const order = select("order", "Sort by", orders);
  const direction = select("direction", "Direction", [["1", "ascending"], ["-1", "descending"]]);
  const orderRun = runs.length > 1
    ? select("run", "Sort by run", runs.map((name, run) => [String(run), name])) : null;

  const summary = (run, response) => response === null
    ? element("span", { class: "about" }, runs.length > 1 ? shape(run) : null, "no response")
    : element("span", { class: "about" },
      runs.length > 1 ? shape(run) : null,
      element("span", {}, element("b", {}, number(response.words, 0)), " words"),
      element("span", {}, sub("l"), " ", element("b", {}, number(response.length, 0))),
      response.status === "unjudged" ? null
        : response.quality === null ? element("span", { class: "fault" }, response.status.replaceAll("_", " "))
        : element("span", {}, sub("q"), " ", element("b", {}, number(response.quality, 0))),
      response.faults.length ? element("span", { class: "fault" }, response.faults.join(", ")) : null);
  // Permalinks: a prompt's id, with a number where several prompts share it.
  const idCounts = new Map();
  const permalinks = prompts.map(({ id }) => {
    idCounts.set(id, (idCounts.get(id) ?? 0) + 1);
    return idCounts.get(id) === 1 ? id : `${id}~${idCounts.get(id)}`;
  });
  const placeOf = new Map(permalinks.map((name, place) => [name, place]));
  const items = prompts.map((prompt, place) => {
    const link = element("a", { href: `#${encodeURI(permalinks[place])}` },
      element("span", { class: "excerpt", dir: "auto" }, prompt.excerpt),
      element("span", { class: "about" },
        `${number(prompt.required, 0)} words required`, element("span", {}, prompt.type)),
      ...prompt.runs.map((response, run) => summary(run, response)));
    return element("li", {}, link);
  });

  let shown = [];
  let hits = null;  // the places that contain the searched text; null without a search
  let updateSteps = () => {};
  const refresh = () => {
    const by = order.value;
    const run = orderRun ? +orderRun.value : 0;
    // prompts without a value come last in both directions
    const key = (place) => by === "required" ? prompts[place].required
      : prompts[place].runs[run]?.[by] ?? null;
    shown = [...prompts.keys()].filter((place) => controls.every(
      ([control, keeps]) => control.value === "" || keeps(prompts[place], control.value))
      && (!hits || hits.has(place)));
    if (by) shown.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      return x === null || y === null ? (x === null) - (y === null) : direction.value * (x - y);
    });
    list.replaceChildren(...shown.map((place) => items[place]));
    document.getElementById("count").textContent = shown.length === prompts.length
      ? `${prompts.length} prompts` : `${shown.length} of ${prompts.length} prompts`;
    direction.disabled = !by;
    updateSteps();
  };

  const unpack = async (place) => {
    const packed = atob(document.getElementById(`text-${place}`).textContent);
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  };

  // Search. The texts are unpacked at the first search and kept in lower case.
  let texts = null;
  const textsToSearch = () => texts ??= Promise.all(prompts.map(async (prompt, place) => {
    const { prompt: asked, runs: answers } = await unpack(place);
    return [prompt.id, asked, ...answers.map((answer) => answer?.text ?? "")].join("\n").toLowerCase();
  }));
  const runSearch = async () => {
    const wanted = search.value.trim().toLowerCase();
    let found = null;
    if (wanted) {
      try {
        const all = await textsToSearch();
        if (search.value.trim().toLowerCase() !== wanted) return;  // typed on in the meantime
        found = new Set([...all.keys()].filter((place) => all[place].includes(wanted)));
      } catch { return; }  // the reader says why nothing can be unpacked
    }
    hits = found;
    refresh();
  };

  // The filters are part of the address: #PROMPT?type=News+Report&q=tea
  const settings = () => [...filters.elements].filter(({ name }) => name);
  const defaults = new Map(settings().map(({ name, value }) => [name, value]));
  const filtersInAddress = () => new URLSearchParams(settings()
    .filter(({ name, value }) => value !== defaults.get(name))
    .map(({ name, value }) => [name, value])).toString();
  const addressOf = (place) => {
    const query = filtersInAddress();
    return `#${place === null ? "" : encodeURI(permalinks[place])}${query ? `?${query}` : ""}`;
  };
  const readAddress = () => {
    const [path, query] = location.hash.slice(1).split(/\?(.*)/s);
    let name = path;
    try { name = decodeURI(path); } catch { /* not one of our links */ }
    const number = /^p(\d+)$/.exec(name);  // links of the figures
    const place = placeOf.get(name) ?? (number && +number[1] < prompts.length ? +number[1] : null);
    if (query !== undefined) {
      const wanted = new URLSearchParams(query);
      for (const control of settings()) {
        const value = wanted.get(control.name) ?? defaults.get(control.name);
        const isKnown = control.tagName === "INPUT"
          || [...control.options].some((option) => option.value === value);
        if (isKnown) control.value = value;
      }
    }
    return { place, hasFilters: query !== undefined };
  };

  // The passages of a text, in words of ten or more (Chinese: characters), that are also in another.
  const RUN = 10;
  const wordsOf = (text) => [...text.matchAll(/[\u4e00-\u9fff]|(?:(?![\u4e00-\u9fff])[\p{L}\p{M}])+|\p{N}+/gu)];
  const runsOf = (found) => found.slice(0, Math.max(0, found.length - RUN + 1)).map((_, n) =>
    found.slice(n, n + RUN).map((word) => word[0].toLowerCase()).join(" "));
  const sharedPassages = (text, other) => {
    const found = wordsOf(text);
    const theirs = new Set(runsOf(wordsOf(other)));
    const passages = [];
    let covered = 0;  // words
    runsOf(found).forEach((run, n) => {
      if (!theirs.has(run)) return;
      const last = found[n + RUN - 1];
      const end = last.index + last[0].length;
      const open = passages.at(-1);
      covered += Math.min(RUN, n + RUN - (open?.upTo ?? 0));
      if (open && found[n].index <= open[1]) open[1] = end;
      else passages.push([found[n].index, end]);
      passages.at(-1).upTo = n + RUN;
    });
    return { passages, share: found.length ? covered / found.length : 0 };
  };

  // A response with a word count after every 500 words, and marks around passages: those that repeat
  // an earlier one, or in a comparison those that the other response has, too.
  const textOf = ({ text, marks, repeats }, shared = null) => {
    const passages = shared ?? repeats;
    const title = shared ? "also in the other response" : "repeats an earlier passage word for word";
    const body = element("div", { class: "response", dir: "auto" });
    const cuts = marks.map(([words, at]) => [at, words]);
    let mark = 0;
    const upTo = (into, from, to) => {
      while (mark < cuts.length && cuts[mark][0] < to) {
        const [at, words] = cuts[mark++];
        into.append(text.slice(from, at), element("span", {
          class: words % (2 * markEvery) ? "words" : "words full", "aria-hidden": "true",
          "data-words": words }, number(words, 0)));
        from = at;
      }
      into.append(text.slice(from, to));
    };
    let at = 0;
    for (const [start, end] of passages) {
      upTo(body, at, start);
      const passage = element("mark", { title });
      upTo(passage, start, end);
      body.append(passage);
      at = end;
    }
    upTo(body, at, text.length);
    return body;
  };

  const mapOf = ({ text, marks, repeats }, body) => {
    const share = (at) => `${100 * at / Math.max(1, text.length)}%`;
    const map = element("button", { type: "button", class: "map", title: "Go to this position" });
    map.setAttribute("aria-label", `Map of ${repeats.length} repeated passages. `
      + "Activate to go to the next one.");
    for (const [words, at] of marks) {
      if (words % (2 * markEvery)) continue;
      map.append(element("u", { style: `left:${share(at)}` }));
    }
    for (const [start, end] of repeats) {
      map.append(element("i", { style: `left:${share(start)};width:${share(end - start)}` }));
    }
    let next = 0;
    map.addEventListener("click", (event) => {
      const places = body.querySelectorAll("mark");
      if (event.detail === 0) {  // activated by keyboard
        if (places.length) places[next++ % places.length].scrollIntoView({ block: "center" });
        return;
      }
      const box = map.getBoundingClientRect();
      const down = (event.clientX - box.left) / box.width * body.offsetHeight;
      scrollTo({ top: scrollY + body.getBoundingClientRect().top + down - innerHeight / 3 });
    });
    return map;
  };

  const verdictOf = (verdict, several) => {
    const scores = verdict.scores
      ? dimensions.map((name, n) => `${name} ${verdict.scores[n]}`).join(" · ")
      : `no scores: ${verdict.reason}`;
    const tokens = verdict.tokens[0] === null ? ""
      : ` · ${number(verdict.tokens[0], 0)} + ${number(verdict.tokens[1] ?? 0, 0)} tokens`;
    const asks = verdict.asks > 1 ? ` · asked ${verdict.asks} times` : "";
    const node = element("details", {},
      element("summary", {}, verdict.part !== null ? `Judge's verdict on part ${verdict.part}`
        : several ? `Judge's verdict ${verdict.repeat}` : "Judge's verdict",
        verdict.judge ? element("bdi", {}, ` by ${verdict.judge}`) : ""),
      element("p", { class: "note" }, element("bdi", {}, verdict.model || "no reply"), tokens, asks,
        verdict.escaped ? " · prompt tags in the response were escaped" : ""),
      element("p", { class: "note" }, scores));
    if (verdict.detail) node.append(element("p", { class: "note fault" }, verdict.detail));
    if (verdict.raw) node.append(element("div", { class: "raw", dir: "auto" }, verdict.raw));
    return node;
  };

  const answerOf = (run, response, unpacked, other = null) => {
    const node = element("section", { class: "answer", "aria-label": `Response of ${runs[run]}` });
    if (runs.length > 1) node.append(element("h3", {}, runName(run)));
    if (response === null) {
      node.append(element("p", { class: "none" }, "This run has no response to this prompt."));
      return node;
    }
    const numbers = element("dl", { class: "numbers" });
    const add = (name, value) =>
      numbers.append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
    add("Words", number(response.words, 0));
    if (response.overall !== null) add("S̄", number(response.overall));
    add(sub("l"), number(response.length));
    if (response.quality !== null) add(sub("q"), number(response.quality));
    else if (response.status !== "unjudged") add("Verdict", response.status.replaceAll("_", " "));
    (response.dimensions || []).forEach((score, n) => add(dimensions[n], number(score, 0)));
    add("Repetition", `${number(100 * response.repetition)}%`);
    if (response.faults.length) add("Faults", response.faults.join(", "));
    node.append(numbers);
    for (const verdict of unpacked.verdicts) {
      node.append(verdictOf(verdict, unpacked.verdicts.filter((each) => each.part === null).length > 1));
    }
    const shared = other && sharedPassages(unpacked.text, other.text);
    if (shared) {
      node.append(element("p", { class: "note shared" }, `${number(100 * shared.share)}% of the words are in `
        + `passages of ${RUN} words or more that the other response has, too.`));
    }
    const body = isRendered && !shared ? markdownOf(unpacked.text)
      : textOf(unpacked, shared && shared.passages);
    if (unpacked.marks.length && !isRendered && !shared) node.append(mapOf(unpacked, body));
    if (unpacked.text) node.append(body);
    else node.append(element("p", { class: "none" }, "The response is empty."));
    return node;
  };

  let open = null;
  let isRendered = false;  // whether Markdown is rendered; the raw text has marks and word counts
  let isDiff = false;  // whether what two responses share is marked, so that the rest differs
  // The runs in the reader: one, or two side by side. On a narrow screen there is one.
  const wide = matchMedia("(min-width: 60rem)");
  let [left, right] = [0, runs.length > 1 ? 1 : null];
  const besides = () => wide.matches && right !== null && right !== left ? [left, right] : [left];

  const runControls = (redraw) => {
    if (runs.length === 1) return [];
    const choose = (title, value, options, change) => {
      const control = element("select", {});
      for (const [key, text] of options) control.append(element("option", { value: key }, text));
      control.value = String(value);
      control.addEventListener("change", () => { change(control.value); redraw(); });
      return element("label", {}, title, control);
    };
    const all = runs.map((name, run) => [String(run), name]);
    if (!wide.matches) {
      return [element("div", { role: "group", "aria-label": "Response of" }, ...all.map(([key]) => {
        const button = element("button", { type: "button", "aria-pressed": String(+key === left) }, runName(+key));
        button.addEventListener("click", () => { left = +key; redraw(); });
        return button;
      }))];
    }
    return [
      choose("Left", left, all, (key) => { left = +key; }),
      choose("Right", right ?? "", [...all, ["", "nothing"]], (key) => { right = key === "" ? null : +key; }),
    ];
  };

  const show = async (place) => {
    open = place;
    let unpacked;
    try {
      unpacked = await unpack(place);
    } catch (error) {
      reader.replaceChildren(element("p", { class: "fault" }, typeof DecompressionStream === "undefined"
        ? "This browser is too old to unpack the responses." : `The response cannot be unpacked: ${error}`));
      return;
    }
    if (open !== place) return;  // another prompt was opened in the meantime
    const prompt = prompts[place];
    // the neighbour in the filtered list, also if the open prompt is not in it
    const neighbour = (by) => {
      const at = shown.indexOf(place);
      if (at >= 0) return shown[at + by];
      return by > 0 ? shown.find((other) => other > place) : shown.findLast((other) => other < place);
    };
    const step = (by, text) => {
      const button = element("button", { type: "button", "data-step": by }, text);
      button.addEventListener("click", () => { location.hash = addressOf(neighbour(by)); });
      return button;
    };
    const steps = [step(-1, "Previous"), step(1, "Next")];
    updateSteps = () => {
      for (const button of steps) button.disabled = neighbour(+button.dataset.step) === undefined;
    };
    updateSteps();
    const back = element("button", { type: "button", class: "back" }, "All responses");
    back.addEventListener("click", () => { location.hash = addressOf(null); });
    const redraw = () => show(place);
    const rendering = element("button", { type: "button", "aria-pressed": String(isRendered) }, "Markdown");
    rendering.addEventListener("click", () => { isRendered = !isRendered; redraw(); });
    const selected = besides();
    const both = selected.length === 2 && selected.every((run) => unpacked.runs[run]);
    const diff = element("button", { type: "button", "aria-pressed": String(isDiff) }, "Common passages");
    diff.addEventListener("click", () => { isDiff = !isDiff; redraw(); });
    const other = (n) => isDiff && both ? unpacked.runs[selected[1 - n]] : null;
    reader.replaceChildren(
      element("div", { class: "bar" }, back, ...steps, rendering, both ? diff : null, ...runControls(redraw)),
      element("h3", { id: "reader-title" }, prompt.id),
      element("p", { class: "note" }, `${prompt.type} · ${prompt.language} · `
        + `${number(prompt.required, 0)} words required`),
      element("div", { class: "prompt", dir: "auto" }, unpacked.prompt),
      element("div", { class: "answers" },
        ...selected.map((run, n) => answerOf(run, prompt.runs[run], unpacked.runs[run], other(n)))));
    for (const item of items) item.firstChild.removeAttribute("aria-current");
    const link = items[place].firstChild;
    link.setAttribute("aria-current", "true");
    if (link.isConnected && list.scrollHeight > list.clientHeight) {
      const [inside, outside] = [link.getBoundingClientRect(), list.getBoundingClientRect()];
      if (inside.top < outside.top || inside.bottom > outside.bottom) {
        list.scrollTop += inside.top - outside.top - outside.height / 3;
      }
    }
  };
  const follow = (event) => {
    const { place, hasFilters } = readAddress();
    const isOpen = place !== null;
    browser.classList.toggle("reading", isOpen);
    if (hasFilters) { refresh(); runSearch(); }
    if (!isOpen) { open = null; return; }
    if (location.hash !== addressOf(place)) history.replaceState(null, "", addressOf(place));
    show(place).then(() => {
      const top = document.getElementById("responses").getBoundingClientRect().top;
      if (event || top > innerHeight) reader.scrollIntoView({ block: "start" });
      reader.focus({ preventScroll: true });
    });
  };

  list.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const next = by && items[shown[shown.findIndex((p) => items[p].contains(event.target)) + by]];
    if (!next) return;
    event.preventDefault();
    next.firstChild.focus();
  });
  for (const link of document.querySelectorAll("figure svg a")) {
    const place = +(link.getAttribute("xlink:href") || link.getAttribute("href")).slice(2);
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = prompts[place].excerpt;
    link.prepend(title);
  }
  const changed = () => {
    refresh();
    history.replaceState(null, "", addressOf(open));
  };
  filters.addEventListener("change", changed);
  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => runSearch().then(changed), 200);
  });
  // n and p within the reader: next and previous response
  reader.addEventListener("keydown", (event) => {
    const by = { n: 1, p: -1 }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input")) return;
    reader.querySelector(`[data-step="${by}"]:not(:disabled)`)?.click();
  });
  wide.addEventListener("change", () => { if (open !== null) show(open); });
  filters.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", follow);
  browser.hidden = false;
  refresh();
  follow();
})();
