"use strict";
// The button that switches the theme. Until it is used, the page follows the system. The choice is
// remembered where the browser allows it.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const remember = (read) => { try { return read(localStorage); } catch { return null; } };
  const chosen = remember((store) => store.getItem("longwriter-theme"));
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  const show = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember((store) => store.setItem("longwriter-theme", root.dataset.theme));
    show();
  });
  system.addEventListener("change", show);
  show();
})();
