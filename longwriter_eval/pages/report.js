// The list of prompts, and the reader. Texts from models only ever become text nodes.
(() => {
  const { runs, dimensions, prompts, markEvery } = JSON.parse(
    document.getElementById("listed").textContent,
  );
  const browser = document.getElementById("browser");
  const filters = document.getElementById("filters");
  const list = document.getElementById("list");
  const reader = document.getElementById("reader");

  const make = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  };
  const number = (value, digits = 1) => value === null ? "–" : value.toLocaleString(
    "en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const sub = (letter) => make("span", {}, "S", make("sub", {}, letter));
  const shape = (run) => make("span", { class: `run-${run % 6 + 1}` },
    make("span", { class: "shape", "aria-hidden": "true" }, "●■◆▲▼✚"[run % 6]), " ");
  const runName = (run) => {
    const made = shape(run);
    made.append(make("bdi", {}, runs[run]));
    return made;
  };

  // Filters: what a reader may choose, and whether a prompt then stays in the list. A prompt with
  // several responses stays for any one of them.
  const some = (test) => (prompt, value) => prompt.runs.some((run) => run && test(run, value));
  const bands = [["0", "under 40"], ["40", "40–60"], ["60", "60–75"], ["75", "75–90"], ["90", "90–100"]];
  const ends = [40, 60, 75, 90, Infinity];
  const inBand = (score, value) => value === "none" ? score === null
    : score !== null && score >= +value && score < ends[bands.findIndex(([start]) => start === value)];
  const values = (of) => [...new Set(prompts.flatMap(of))];
  const isJudged = prompts.some((prompt) => prompt.runs.some((run) => run && run.overall !== null));
  const byScore = isJudged ? ["Overall score", "overall"] : ["Length score", "length"];
  const choices = [
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
    ["", "as in the benchmark"], ["required", "required words"], ["words", "produced words"],
    ["length", "length score"], ["quality", "quality score"],
    ["overall", "overall score"], ["repetition", "repetition"],
  ];

  const select = (name, label, options) => {
    const made = make("select", { name });
    for (const option of options) {
      const [value, text] = Array.isArray(option) ? option : [option, option];
      made.append(make("option", { value }, text));
    }
    filters.append(make("label", {}, label, made));
    return made;
  };
  const chosen = choices.map(([name, label, options, keeps]) =>
    [select(name, label, [["", "all"], ...options]), keeps]);
  const order = select("order", "Order by", orders);
  const direction = select("direction", "Direction", [["1", "low to high"], ["-1", "high to low"]]);
  const orderRun = runs.length > 1
    ? select("run", "Order by run", runs.map((name, run) => [String(run), name])) : null;

  const line = (run, of) => of === null
    ? make("span", { class: "about" }, runs.length > 1 ? shape(run) : null, "no response")
    : make("span", { class: "about" },
      runs.length > 1 ? shape(run) : null,
      make("span", {}, make("b", {}, number(of.words, 0)), " words"),
      make("span", {}, sub("l"), " ", make("b", {}, number(of.length, 0))),
      of.status === "unjudged" ? null
        : of.quality === null ? make("span", { class: "fault" }, of.status.replaceAll("_", " "))
        : make("span", {}, sub("q"), " ", make("b", {}, number(of.quality, 0))),
      of.faults.length ? make("span", { class: "fault" }, of.faults.join(", ")) : null);
  const items = prompts.map((prompt, place) => {
    const link = make("a", { href: `#p${place}` },
      make("span", { class: "excerpt", dir: "auto" }, prompt.excerpt),
      make("span", { class: "about" },
        `${number(prompt.required, 0)} words asked for`, make("span", {}, prompt.type)),
      ...prompt.runs.map((of, run) => line(run, of)));
    return make("li", {}, link);
  });

  let shown = [];
  const refresh = () => {
    const by = order.value;
    const run = orderRun ? +orderRun.value : 0;
    // what has no value comes last, whatever the direction
    const key = (place) => by === "required" ? prompts[place].required
      : prompts[place].runs[run]?.[by] ?? null;
    shown = [...prompts.keys()].filter((place) => chosen.every(
      ([control, keeps]) => control.value === "" || keeps(prompts[place], control.value)));
    if (by) shown.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      return x === null || y === null ? (x === null) - (y === null) : direction.value * (x - y);
    });
    list.replaceChildren(...shown.map((place) => items[place]));
    document.getElementById("count").textContent = shown.length === prompts.length
      ? `${prompts.length} prompts` : `${shown.length} of ${prompts.length} prompts`;
    direction.disabled = !by;
  };

  const unpack = async (place) => {
    const packed = atob(document.getElementById(`text-${place}`).textContent);
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  };

  // The response's text, with a number at every 500th word and marks around what is repeated.
  const textOf = ({ text, marks, repeats }) => {
    const body = make("div", { class: "response", dir: "auto" });
    const cuts = marks.map(([words, at]) => [at, words]);
    let mark = 0;
    const upTo = (into, from, to) => {
      while (mark < cuts.length && cuts[mark][0] < to) {
        const [at, words] = cuts[mark++];
        into.append(text.slice(from, at), make("span", {
          class: words % (2 * markEvery) ? "words" : "words full", "aria-hidden": "true",
          "data-words": words }, number(words, 0)));
        from = at;
      }
      into.append(text.slice(from, to));
    };
    let at = 0;
    for (const [start, end] of repeats) {
      upTo(body, at, start);
      const passage = make("mark", { title: "written before, word for word" });
      upTo(passage, start, end);
      body.append(passage);
      at = end;
    }
    upTo(body, at, text.length);
    return body;
  };

  const mapOf = ({ text, marks, repeats }, body) => {
    const share = (at) => `${100 * at / Math.max(1, text.length)}%`;
    const map = make("button", { type: "button", class: "map", title: "Go to this place" });
    map.setAttribute("aria-label", `Where passages are repeated: ${repeats.length} places. `
      + "Goes to the next one.");
    for (const [words, at] of marks) {
      if (words % (2 * markEvery)) continue;
      map.append(make("u", { style: `left:${share(at)}` }));
    }
    for (const [start, end] of repeats) {
      map.append(make("i", { style: `left:${share(start)};width:${share(end - start)}` }));
    }
    let next = 0;
    map.addEventListener("click", (event) => {
      const places = body.querySelectorAll("mark");
      if (event.detail === 0) {  // by keyboard
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
    const made = make("details", {},
      make("summary", {}, several ? `The judge's verdict ${verdict.repeat}` : "The judge's verdict"),
      make("p", { class: "note" }, make("bdi", {}, verdict.model || "no reply"), tokens, asks,
        verdict.defused ? " · tags of the judge's prompt were escaped" : ""),
      make("p", { class: "note" }, scores));
    if (verdict.detail) made.append(make("p", { class: "note fault" }, verdict.detail));
    if (verdict.raw) made.append(make("div", { class: "raw", dir: "auto" }, verdict.raw));
    return made;
  };

  const answerOf = (run, of, unpacked) => {
    const made = make("section", { class: "answer", "aria-label": `Response of ${runs[run]}` });
    if (runs.length > 1) made.append(make("h3", {}, runName(run)));
    if (of === null) {
      made.append(make("p", { class: "none" }, "This run has no response to this prompt."));
      return made;
    }
    const numbers = make("dl", { class: "numbers" });
    const add = (name, value) =>
      numbers.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
    add("Words", number(of.words, 0));
    if (of.overall !== null) add("S̄", number(of.overall));
    add(sub("l"), number(of.length));
    if (of.quality !== null) add(sub("q"), number(of.quality));
    else if (of.status !== "unjudged") add("Verdict", of.status.replaceAll("_", " "));
    (of.dimensions || []).forEach((score, n) => add(dimensions[n], number(score, 0)));
    add("Repetition", `${number(100 * of.repetition)}%`);
    if (of.faults.length) add("Faults", of.faults.join(", "));
    made.append(numbers);
    for (const verdict of unpacked.verdicts) {
      made.append(verdictOf(verdict, unpacked.verdicts.length > 1));
    }
    const body = textOf(unpacked);
    if (unpacked.marks.length) made.append(mapOf(unpacked, body));
    if (unpacked.text) made.append(body);
    else made.append(make("p", { class: "none" }, "The response is empty."));
    return made;
  };

  let open = null;
  const show = async (place) => {
    open = place;
    let unpacked;
    try {
      unpacked = await unpack(place);
    } catch (error) {
      reader.replaceChildren(make("p", { class: "fault" }, typeof DecompressionStream === "undefined"
        ? "This browser is too old to unpack the responses." : `Cannot unpack it: ${error}`));
      return;
    }
    if (open !== place) return;  // another one was opened meanwhile
    const prompt = prompts[place];
    const step = (by, text) => {
      const to = shown[shown.indexOf(place) + by];
      const button = make("button", { type: "button" }, text);
      button.disabled = !shown.includes(place) || to === undefined;
      button.addEventListener("click", () => { location.hash = `p${to}`; });
      return button;
    };
    const back = make("button", { type: "button", class: "back" }, "All responses");
    back.addEventListener("click", () => { location.hash = "responses"; });
    reader.replaceChildren(
      make("div", { class: "bar" }, back, step(-1, "Previous"), step(1, "Next")),
      make("h3", { id: "reader-title" }, prompt.id),
      make("p", { class: "note" }, `${prompt.type} · ${prompt.language} · `
        + `${number(prompt.required, 0)} words asked for`),
      make("div", { class: "prompt", dir: "auto" }, unpacked.prompt),
      make("div", { class: "answers" },
        ...prompt.runs.map((of, run) => answerOf(run, of, unpacked.runs[run]))));
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
    const match = /^#p(\d+)$/.exec(location.hash);
    const isOpen = Boolean(match) && +match[1] < prompts.length;
    browser.classList.toggle("reading", isOpen);
    if (!isOpen) { open = null; return; }
    show(+match[1]).then(() => {
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
  filters.addEventListener("change", refresh);
  filters.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", follow);
  browser.hidden = false;
  refresh();
  follow();
})();
