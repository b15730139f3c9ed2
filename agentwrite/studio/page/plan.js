// The editor of a plan. It saves by itself a moment after each change.

import { element, number, plural } from "./text.js";

const SAVE_DELAY = 400; // milliseconds
const MAX_STEP_WORDS = 2000;

export class PlanEditor {
  // `save(steps)` sends the steps to the server; `changed()` is called after each edit.
  constructor(list, total, add, save, changed) {
    Object.assign(this, { list, total, save, changed, steps: [], timer: 0, isDirty: false, saving: null });
    add.addEventListener("click", () => this.insert(this.steps.length));
  }

  get words() {
    return this.steps.reduce((sum, step) => sum + (step.words || 0), 0);
  }

  get isValid() {
    const good = (step) => step.main_point.trim() && step.words >= 1 && step.words <= MAX_STEP_WORDS;
    return this.steps.length > 0 && this.steps.every(good);
  }

  // The plan as the server has it; edits that are not saved yet stay.
  show(steps) {
    const given = JSON.stringify(steps);
    if (this.isDirty || given === JSON.stringify(this.steps)) return;
    this.steps = JSON.parse(given);
    this.draw();
  }

  forget() {
    clearTimeout(this.timer);
    Object.assign(this, { isDirty: false, steps: [] });
    this.list.replaceChildren();
  }

  draw() {
    this.list.replaceChildren(...this.steps.map((step, place) => this.row(step, place)));
    this.count();
  }

  count() {
    this.total.textContent = `${plural(this.steps.length, "step")}, ${plural(this.words, "word")}. `
      + "Change, add, remove or reorder the steps: the text will be as long as they add up to.";
  }

  edited() {
    this.isDirty = true;
    this.count();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), SAVE_DELAY);
    this.changed();
  }

  // Sends what is not saved yet. Edits that the server would refuse wait until they are complete.
  async flush(keepalive = false) {
    clearTimeout(this.timer);
    await this.saving;
    if (!this.isDirty || !this.isValid) return;
    this.isDirty = false;
    this.saving = this.save(this.steps, keepalive);
    try {
      await this.saving;
    } catch (error) {
      this.isDirty = true;
      throw error;
    } finally {
      this.saving = null;
    }
  }

  insert(place) {
    const words = Math.round(this.words / this.steps.length) || 400;
    this.steps.splice(place, 0, { main_point: "", words, chapter: null });
    this.redraw(place, "textarea");
  }

  remove(place) {
    this.steps.splice(place, 1);
    this.redraw(Math.min(place, this.steps.length - 1), ".remove");
  }

  move(place, by) {
    const [step] = this.steps.splice(place, 1);
    this.steps.splice(place + by, 0, step);
    this.redraw(place + by, by < 0 ? ".up" : ".down");
  }

  redraw(place, focus) {
    this.draw();
    this.edited();
    const row = this.list.children[place];
    (row?.querySelector(`${focus}:not(:disabled)`) ?? row?.querySelector("textarea"))?.focus();
  }

  row(step, place) {
    const button = (name, sign, label, work, disabled = false) => element(
      "button",
      { type: "button", className: `${name} icon`, title: label, disabled, onclick: work,
        "aria-label": `${label}: step ${place + 1}` },
      sign,
    );
    const set = (field, read) => (event) => {
      step[field] = read(event.target);
      event.target.toggleAttribute("aria-invalid", !event.target.checkValidity());
      this.edited();
    };
    const chapter = (value) => element("input", {
      className: "chapter", value, placeholder: "Name of the chapter that begins here",
      "aria-label": `Chapter that begins with step ${place + 1}`,
      oninput: set("chapter", (field) => field.value.trim() || null),
    });
    const row = element(
      "li",
      {},
      element("span", { className: "place", "aria-hidden": "true" }, number(place + 1)),
      element("div", { className: "fields" },
        ...(step.chapter ? [chapter(step.chapter)] : []),
        element("textarea", {
          rows: 2, value: step.main_point, required: true, dir: "auto",
          "aria-label": `Main point of step ${place + 1}`,
          oninput: set("main_point", (field) => field.value),
        })),
      element("label", { className: "words" },
        element("input", {
          type: "number", min: 1, max: MAX_STEP_WORDS, required: true, value: step.words,
          inputMode: "numeric", "aria-label": `Words of step ${place + 1}`,
          oninput: set("words", (field) => Number.parseInt(field.value, 10) || 0),
        }), "words"),
      element("div", { className: "tools" },
        button("up", "↑", "Move up", () => this.move(place, -1), place === 0),
        button("down", "↓", "Move down", () => this.move(place, 1), place === this.steps.length - 1),
        button("more", "+", "Add a step below", () => this.insert(place + 1)),
        button("begin", "§", "Begin a chapter", () => {
          row.querySelector(".fields").prepend(chapter(""));
          row.querySelector(".chapter").focus();
        }, Boolean(step.chapter)),
        button("remove", "×", "Remove", () => this.remove(place), this.steps.length === 1)),
    );
    return row;
  }
}
