// The page of `longwriter annotate`. A choice counts once the server has written it to disk: only
// then does the page go on.
(() => {
  const at = (id) => document.getElementById(id);
  const buttons = [...document.querySelectorAll("[data-better]")];
  let person = "";
  let choices = [];  // "left", "right", "tie" or null, for each pair
  let current = 0;
  let shownAt = 0;
  let isBusy = false;

  const ask = async (path, options) => {
    at("problem").hidden = true;
    try {
      const answer = await fetch(path, options);
      const text = await answer.text();
      if (!answer.ok) {
        let said = text;
        try { said = JSON.parse(text).error.message; } catch { /* not one of our errors */ }
        throw new Error(said);
      }
      return text ? JSON.parse(text) : null;
    } catch (problem) {
      const why = problem instanceof TypeError ? "the server does not answer" : problem.message;
      at("problem").textContent = `Not saved: ${why}. Please try again.`;
      at("problem").hidden = false;
      throw problem;
    }
  };
  const of = () => `person=${encodeURIComponent(person)}`;

  const show = async (number) => {
    current = number;
    const pair = await ask(`pairs/${number}?${of()}`);
    at("instruction").textContent = pair.instruction;
    for (const side of ["left", "right"]) {
      at(side).replaceChildren(markdownOf(pair[side]));
      at(side).scrollTop = 0;
    }
    const done = choices.filter((choice) => choice !== null).length;
    at("progress").textContent = `Pair ${number + 1} of ${choices.length}, ${done} judged`;
    for (const button of buttons) {
      button.setAttribute("aria-pressed", button.dataset.better === choices[number]);
    }
    at("previous").disabled = number === 0;
    at("next").disabled = number === choices.length - 1;
    at("end").hidden = done < choices.length;
    scrollTo(0, 0);
    shownAt = performance.now();
  };

  // One action at a time: a key that is pressed twice must not judge two pairs.
  const exclusively = (action) => async (...given) => {
    if (isBusy) return;
    isBusy = true;
    try { await action(...given); } catch { /* the page says so */ } finally { isBusy = false; }
  };
  const step = exclusively(async (by) => {
    const number = current + by;
    if (number >= 0 && number < choices.length) await show(number);
  });
  const choose = exclusively(async (better) => {
    const seconds = (performance.now() - shownAt) / 1000;
    await ask("choices", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ person, pair: current, better, seconds }),
    });
    choices[current] = better;
    const open = (from) => choices.indexOf(null, from);
    const next = open(current + 1) >= 0 ? open(current + 1) : open(0);
    await show(next >= 0 ? next : current);
  });
  const start = exclusively(async () => {
    person = at("person").value.trim();
    ({ choices } = await ask(`pairs?${of()}`));
    at("start").hidden = true;
    at("pair").hidden = at("bar").hidden = false;
    await show(Math.max(0, choices.indexOf(null)));
  });

  at("start").addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  for (const button of buttons) {
    button.addEventListener("click", () => choose(button.dataset.better));
  }
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  const keys = {
    1: () => choose("left"), 2: () => choose("right"), 0: () => choose("tie"),
    p: () => step(-1), n: () => step(1),
  };
  document.addEventListener("keydown", (event) => {
    const isTyping = event.ctrlKey || event.metaKey || event.altKey || event.repeat;
    const action = !isTyping && !at("bar").hidden && keys[event.key.toLowerCase()];
    if (action) action();
  });
})();
