// The studio: a list of texts, and one text with its plan, its sections and what can be done.

import { Refused, bookPath, download, get, hasKey, keepKey, listen, post } from "./api.js";
import { PlanEditor } from "./plan.js";
import { cost, duration, element, number, plural, prose } from "./text.js";

const RETRY = [500, 1000, 2000, 5000, 10_000]; // milliseconds between attempts to connect
const NEAR = 300; // pixels from the end of the page within which it follows the text

const $ = (id) => document.getElementById(id);
const STATES = {
  new: "Not planned", planning: "Planning …", planned: "Planned", writing: "Writing …",
  rewriting: "Rewriting …", stopping: "Stopping after this section …", stopped: "Stopped",
  done: "Finished", unreadable: "Unreadable",
};
const BUSY = ["planning", "writing", "rewriting", "stopping"];

let info = { formats: [], has_price: false };
let open = null; // name of the open text
let book = null; // its state, as the server sent it last
let receivedAt = 0;
let steps = [];
let last = ""; // id of the last event
let newest = null; // state that is shown in the next frame
let isAtEnd = false; // the end of the text is in view, so that the page follows it
let listening = new AbortController();
const written = new Map(); // number -> section, with its element

const editor = new PlanEditor($("steps"), $("total"), $("add"), savePlan, showActions);

async function savePlan(changed, keepalive) {
  try {
    await post(`${bookPath(open)}/plan`, { steps: changed }, keepalive);
    warn("");
  } catch (error) {
    warn(error);
    throw error;
  }
}

// Messages

function warn(problem) {
  $("alert").textContent = problem?.message ?? problem ?? "";
}

// Runs `work` and shows what goes wrong. A missing key is asked for, and the work is done again.
async function attempt(work) {
  try {
    warn("");
    return await work();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    if (error instanceof Refused && error.status === 401) {
      await askKey();
      return attempt(work);
    }
    warn(error instanceof TypeError ? "The server does not answer. Is it running?" : error);
    return undefined;
  }
}

let asking = null;
function askKey() {
  asking ??= new Promise((given) => {
    $("ask-title").textContent = hasKey() ? "The server does not know this key"
      : "This server needs a key";
    $("ask").showModal();
    $("ask").addEventListener("close", () => {
      asking = null;
      keepKey($("key").value.trim(), $("remember").checked);
      $("key").value = "";
      given();
    }, { once: true });
  });
  return asking;
}
$("ask").addEventListener("cancel", (event) => event.preventDefault());

// The list of texts

async function showBooks() {
  const { books } = await get("books");
  $("books").replaceChildren(...books.map((each) => {
    const about = [STATES[each.state], ...(each.words ? [plural(each.words, "word")] : [])].join(" · ");
    const link = element("a", { href: `#${encodeURIComponent(each.name)}` },
      element("span", { className: "name", dir: "auto" }, each.title),
      element("span", { className: "about" }, about));
    if (each.name === open) link.setAttribute("aria-current", "page");
    return element("li", {}, link);
  }));
}

// Routing

function nameInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1)) || null;
  } catch {
    return null; // an address that was typed or cut
  }
}

async function route() {
  await editor.flush().catch(() => {});
  listening.abort();
  open = nameInAddress();
  [book, steps, last, newest, isAtEnd] = [null, [], "", null, false];
  written.clear();
  editor.forget();
  $("sections").replaceChildren();
  $("asked").open = false;
  $("new").hidden = Boolean(open);
  $("book").hidden = true;
  document.body.classList.remove("shelf-open");
  $("menu").setAttribute("aria-expanded", "false");
  await attempt(showBooks);
  if (open) follow();
  else document.title = "AgentWrite studio";
}

// Listens to the open text, also after the connection was lost.
async function follow() {
  listening.abort();
  const { signal } = (listening = new AbortController());
  for (let tries = 0; !signal.aborted; tries += 1) {
    try {
      last = await listen(open, last, signal, (event, data) => {
        tries = 0;
        if (!signal.aborted) receive(event, data);
      });
      $("hint").textContent = "The connection is lost. Connecting again …";
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status === 401) await askKey();
      else if (error instanceof Refused) return warn(error);
      else warn("The server does not answer. Connecting again …");
    }
    await new Promise((done) => setTimeout(done, RETRY[Math.min(tries, RETRY.length - 1)]));
  }
}

function receive(event, data) {
  if (event === "plan") {
    steps = data.steps;
    written.clear();
    $("sections").replaceChildren();
    editor.show(steps);
  } else if (event === "section") {
    showSection(data);
  } else if (event === "book") {
    // Sections can arrive faster than the page can show them: show the last state of each frame.
    if (!newest) requestAnimationFrame(() => {
      const latest = newest;
      newest = null;
      if (latest?.name === open) showBook(latest);
    });
    newest = data;
  }
}

// The open text

function showBook(data) {
  const before = book;
  [book, receivedAt] = [data, performance.now()];
  warn(book.error);
  const title = book.title ?? book.instruction.split("\n")[0];
  $("title").textContent = title.length > 120 ? `${title.slice(0, 120)} …` : title;
  $("title").dir = "auto";
  document.title = `${$("title").textContent} · AgentWrite studio`;
  $("asked").querySelector("p").textContent = book.instruction;
  $("asked").hidden = book.instruction === title;
  $("book").hidden = false;
  $("plan").hidden = written.size > 0 || steps.length === 0 || BUSY.includes(book.state);
  $("reading").hidden = !$("plan").hidden || steps.length === 0;
  showProgress();
  showActions();
  showContents();
  if (before && before.sections < book.sections) {
    $("live").textContent = `${plural(book.sections, "section")} of ${steps.length} written.`;
    if (isAtEnd) scrollTo(0, document.documentElement.scrollHeight);
  }
  if (before && before.state !== book.state) {
    $("live").textContent = STATES[book.state];
    attempt(showBooks);
    if (book.state === "planned") $("plan-title").focus({ preventScroll: true });
    if (book.state === "writing") scrollTo(0, 0);
  }
}

function showProgress() {
  if (!book) return;
  const { state, words, goal, sections, spent } = book;
  $("state").textContent = STATES[state];
  const parts = [];
  if (words) parts.push(goal ? `${number(words)} of ${plural(goal, "word")}` : plural(words, "word"));
  if (state === "writing") parts.push(`section ${Math.min(sections + 1, steps.length)} of ${steps.length}`);
  if (state === "rewriting") parts.push(`${plural(book.rewrite_left.length, "section")} to go`);
  if (book.seconds_left !== null && state === "writing") {
    const left = book.seconds_left - (performance.now() - receivedAt) / 1000;
    parts.push(`about ${duration(Math.max(1, left))} left`);
  }
  if (spent.calls) parts.push(cost(spent, info.has_price));
  $("numbers").textContent = parts.join(" · ");
  $("progress").hidden = !steps.length || state === "planned";
  $("progress").max = goal || 1;
  $("progress").value = Math.min(words, goal || 1);
  $("hint").textContent = hint();
}

function hint() {
  if (book.comes_from_store) {
    return "This text comes from the store of finished calls, and nothing was paid for it. "
      + "A copy gets a text of its own.";
  }
  switch (book.state) {
    case "planning": return "The model plans the text. You can close this page meanwhile.";
    case "writing": return "You can close this page: the text goes on, and waits for you here.";
    case "stopping": return "What is being written is paid for, and will be kept.";
    case "stopped": return "Nothing is lost: what is written is not paid for again.";
    case "planned": return "Read the plan and change it. Nothing is written yet.";
    default: return "";
  }
}

function showActions() {
  if (!book) return;
  const { state } = book;
  const isBusy = BUSY.includes(state);
  const tooLong = state === "planned" && editor.words > info.max_words;
  $("start").hidden = isBusy || state === "done";
  $("start").textContent = state === "new" ? "Plan" : state === "planned"
    ? `Write ${plural(editor.words, "word")}` : "Resume";
  $("start").disabled = state === "planned" && (!editor.isValid || tooLong);
  $("start").title = tooLong ? `This server writes at most ${plural(info.max_words, "word")}` : "";
  $("stop").hidden = !isBusy;
  $("stop").textContent = state === "stopping" ? "Stop at once" : "Stop";
  $("download").hidden = written.size === 0;
  $("copy").hidden = isBusy || steps.length === 0;
  const waiting = state === "rewriting" || state === "stopping" ? book.rewrite_left : [];
  for (const [place, section] of written) {
    section.element.querySelector(".change").hidden = state !== "done";
    section.element.querySelector(".waits").hidden = !waiting.includes(place);
  }
}

function showContents() {
  $("contents").querySelector("ol").replaceChildren(...steps.map((step, place) => {
    const section = written.get(place + 1);
    const name = element("span", { className: "name", dir: "auto" }, step.main_point);
    const about = element("span", { className: "about" }, section
      ? `${number(section.words)} words` : `${number(step.words)} planned`);
    const item = section ? element("a", { href: `#${encodeURIComponent(open)}`,
      onclick: (event) => { event.preventDefault(); goTo(place + 1); } }, name, about)
      : element("span", { className: "waiting" }, name, about);
    return element("li", {}, ...(step.chapter
      ? [element("p", { className: "chapter", dir: "auto" }, step.chapter)] : []), item);
  }));
  const next = steps.findIndex((_, place) => !written.has(place + 1)) + 1;
  $("pending").hidden = book.state !== "writing" || !next;
  $("pending").textContent = `Section ${next} is being written: `
    + `${steps[next - 1]?.main_point ?? ""}`;
}

function goTo(place) {
  const section = $(`section-${place}`);
  section.scrollIntoView();
  section.querySelector("h3").focus({ preventScroll: true });
}

function showSection(section) {
  const isNew = !written.has(section.number);
  const made = sectionElement(section);
  if (isNew) {
    const after = [...written.keys()].filter((place) => place > section.number);
    const next = after.length ? written.get(Math.min(...after)).element : null;
    $("sections").insertBefore(made, next);
  } else {
    written.get(section.number).element.replaceWith(made);
    made.classList.add("changed");
  }
  written.set(section.number, { words: section.words, text: section.text, element: made });
}

function sectionElement(section) {
  const step = steps[section.number - 1];
  const id = `section-${section.number}`;
  const change = element("button", { type: "button", className: "change", hidden: book?.state !== "done",
    "aria-label": `Rewrite section ${section.number}`, onclick: () => askNote(made, section.number) },
    "Rewrite");
  const made = element(
    "article",
    { id, className: "section", "aria-labelledby": `${id}-title` },
    ...(step?.chapter ? [element("p", { className: "chapter", dir: "auto" }, step.chapter)] : []),
    element("header", {},
      element("h3", { id: `${id}-title`, tabIndex: -1 }, `Section ${section.number}`),
      element("span", { className: "about" },
        `${number(section.words)} words, target ${number(section.target)}`),
      element("span", { className: "waits", hidden: true }, "is being rewritten …"), change),
    element("div", { className: "prose" }, ...prose(section.text)),
  );
  return made;
}

function askNote(article, place) {
  if (article.querySelector("form")) return;
  const note = element("textarea", { rows: 3, required: true });
  const repair = element("input", { type: "checkbox" });
  const isLast = place === written.size;
  const form = element(
    "form",
    { className: "rewrite", onsubmit: async (event) => {
      event.preventDefault();
      const body = { sections: [place], note: note.value, repair: repair.checked };
      if (await attempt(() => post(`${bookPath(open)}/rewrite`, body))) close();
    } },
    element("label", {}, `What should be different in section ${place}?`, note),
    ...(isLast ? [] : [element("label", { className: "check" }, repair,
      " Also adapt the sections that follow, one call for each")]),
    element("div", { className: "actions" },
      element("button", { className: "primary" }, "Rewrite"),
      element("button", { type: "button", onclick: () => close() }, "Cancel")),
  );
  const close = () => {
    form.remove();
    article.querySelector(".change")?.focus();
  };
  form.addEventListener("keydown", (event) => event.key === "Escape" && close());
  article.querySelector("header").after(form);
  note.focus();
}

// Actions

const act = (action) => attempt(() => post(`${bookPath(open)}/${action}`));

$("start").addEventListener("click", () => attempt(async () => {
  await editor.flush();
  await post(`${bookPath(open)}/start`);
}));
$("stop").addEventListener("click", () => act("stop"));
$("copy").addEventListener("click", () => attempt(async () => {
  const made = await post("books", {
    instruction: book.instruction,
    title: book.title,
    seed: crypto.getRandomValues(new Uint32Array(1))[0] >>> 1,
    steps,
  });
  location.hash = encodeURIComponent(made.name);
}));
$("new").addEventListener("submit", (event) => {
  event.preventDefault();
  const { instruction, words, title } = event.target.elements;
  attempt(async () => {
    const made = await post("books", {
      instruction: instruction.value,
      words: words.valueAsNumber || null,
      title: title.value.trim() || null,
    });
    event.target.reset();
    location.hash = encodeURIComponent(made.name);
  });
});
$("new").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("new").requestSubmit();
});
$("menu").addEventListener("click", () => {
  const isOpen = document.body.classList.toggle("shelf-open");
  $("menu").setAttribute("aria-expanded", String(isOpen));
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part of the address after # names a text
  $("main").focus();
});
addEventListener("hashchange", route);
addEventListener("scroll", () => {
  isAtEnd = innerHeight + scrollY > document.documentElement.scrollHeight - NEAR;
}, { passive: true });
addEventListener("pagehide", () => editor.flush(true).catch(() => {}));
// A browser allows few connections to a server: pages that nobody sees hold none.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) listening.abort();
  else if (open) follow();
});
setInterval(() => book?.state === "writing" && showProgress(), 1000);

const NAMES = { md: "Markdown", html: "HTML", epub: "EPUB", docx: "Word (DOCX)" };

async function begin() {
  info = await get("info");
  $("model").textContent = info.model;
  $("limits").textContent = ` At most ${plural(info.max_words, "word")}`
    + `${info.max_cost ? `, and $${info.max_cost} for all texts together` : ""}.`;
  $("download").querySelector("div").replaceChildren(...info.formats.map((format) =>
    element("button", { type: "button", onclick: () => {
      $("download").open = false;
      attempt(() => download(open, format));
    } }, NAMES[format])));
}

$("contents").open = matchMedia("(min-width: 75rem)").matches; // beside the text, not above it
await attempt(begin);
await route();
