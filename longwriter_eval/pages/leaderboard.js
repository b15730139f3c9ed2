// Sorting and filtering of the tables; without a script they stand in order of rank.
(() => {
  const filters = document.getElementById("filters");
  const judge = document.getElementById("judge");
  const language = document.getElementById("language");
  const status = document.getElementById("status");

  const show = () => {
    let shown = 0;
    for (const ranking of document.querySelectorAll(".ranking")) {
      ranking.hidden = judge.value !== "" && ranking.dataset.ranking !== judge.value;
      for (const table of ranking.querySelectorAll("[data-language]")) {
        table.hidden = table.dataset.language !== language.value;
        if (!ranking.hidden && !table.hidden) shown += table.querySelectorAll("tbody tr").length;
      }
    }
    status.textContent = `${shown} shown, ${language.selectedOptions[0].text}`;
  };

  // Missing values stay last, whichever way the others go.
  const sort = (heading) => {
    const row = heading.parentElement;
    const column = [...row.children].indexOf(heading);
    const isText = heading.dataset.kind === "text";
    const isFirst = column === 0;
    const was = heading.getAttribute("aria-sort");
    const way = was === "none" ? (isText || isFirst ? "ascending" : "descending")
      : was === "ascending" ? "descending" : "ascending";
    const body = heading.closest("table").tBodies[0];
    const value = (line) => line.children[column].dataset.value;
    const compare = (a, b) => isText ? a.localeCompare(b) : a - b;
    const lines = [...body.rows].sort((a, b) => {
      const one = value(a), other = value(b);
      if (one === "" || other === "") return (one === "") - (other === "");
      return (way === "ascending" ? 1 : -1) * compare(one, other);
    });
    for (const each of row.children) {
      if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", each === heading ? way : "none");
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
  judge.addEventListener("change", show);
  language.addEventListener("change", show);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.hidden = false;
  show();
})();
