// Sorting and filtering of the tables. Without this script, they are in order of rank.
(() => {
  const filters = document.getElementById("filters");
  const judge = document.getElementById("judge");
  const language = document.getElementById("language");
  const search = document.getElementById("search");
  const attributes = ["size", "licence", "source"];  // of a row, each with a filter of that name
  const chosen = attributes.map((name) => document.getElementById(name));
  const controls = { judge, prompts: language, search };
  attributes.forEach((name, index) => { controls[name] = chosen[index]; });
  const status = document.getElementById("status");

  const show = () => {
    let shown = 0;
    const wanted = search.value.trim().toLowerCase();
    for (const ranking of document.querySelectorAll(".ranking")) {
      ranking.hidden = judge.value !== "" && ranking.dataset.ranking !== judge.value;
      for (const table of ranking.querySelectorAll("[data-language]")) {
        table.hidden = table.dataset.language !== language.value;
        for (const row of table.querySelectorAll("tbody tr[data-source]")) {
          row.hidden = attributes.some((name, index) => chosen[index].value !== ""
            && row.dataset[name] !== chosen[index].value)
            || !row.querySelector("th").textContent.toLowerCase().includes(wanted);
          if (!ranking.hidden && !table.hidden && !row.hidden) shown += 1;
        }
      }
    }
    status.textContent = `${shown} shown, ${language.selectedOptions[0].text}`;
  };

  // Missing values come last in both directions.
  const sort = (heading) => {
    const row = heading.parentElement;
    const column = [...row.children].indexOf(heading);
    const isText = heading.dataset.kind === "text";
    const isFirst = column === 0;
    const previous = heading.getAttribute("aria-sort");
    const direction = previous === "none" ? (isText || isFirst ? "ascending" : "descending")
      : previous === "ascending" ? "descending" : "ascending";
    const body = heading.closest("table").tBodies[0];
    const value = (line) => line.children[column].dataset.value;
    const compare = (a, b) => isText ? a.localeCompare(b) : a - b;
    const lines = [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      return (direction === "ascending" ? 1 : -1) * compare(x, y);
    });
    for (const cell of row.children) {
      if (!cell.hasAttribute("aria-sort")) continue;
      cell.setAttribute("aria-sort", cell === heading ? direction : "none");
    }
    body.append(...lines);
  };

  for (const heading of document.querySelectorAll("th[aria-sort]")) {
    const place = heading.querySelector(".sort");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...place.childNodes);
    button.addEventListener("click", () => sort(heading));
    place.append(button);
  }

  // The filters are in the address (#judge=…&prompts=…), beside the plain anchors of the sections.
  const remember = () => {
    const set = Object.entries(controls).filter(([, control]) =>
      control.value !== (control === language ? "all" : ""));
    const text = new URLSearchParams(set.map(([name, control]) => [name, control.value]));
    history.replaceState(null, "", set.length ? `#${text}` : location.pathname);
  };
  const follow = () => {
    if (location.hash.length > 1 && !location.hash.includes("=")) return;
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const [name, control] of Object.entries(controls)) {
      const initial = control === language ? "all" : "";
      control.value = wanted.get(name) ?? initial;
      if (control.selectedIndex === -1) control.value = initial;
    }
    show();
  };
  for (const control of Object.values(controls)) {
    control.addEventListener("input", () => { show(); remember(); });
  }
  addEventListener("hashchange", follow);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.hidden = false;
  show();
  follow();
})();
