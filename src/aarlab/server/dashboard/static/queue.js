// The audit queue by keyboard: j k move, Enter opens, a d r (a method) and c x (an AAR's submissions)
// decide, Escape goes back to the list.
"use strict";
(() => {
  const PLACE = "aarlab-queue-place";
  const cases = [...document.querySelectorAll("[data-case]")];
  if (!cases.length) return;
  const decisions = { a: "accepted", d: "disqualified", r: "rework", c: "confirmed:task", x: "dismissed" };
  let place = -1;

  const move = (to) => {
    place = Math.max(0, Math.min(cases.length - 1, to));
    cases[place].focus();
    cases[place].scrollIntoView({ block: "nearest" });
  };
  const decide = (value) => {
    const choice = cases[place].querySelector(`details.decide input[value="${value}"]`);
    if (!choice) return;
    const fold = choice.closest("details");
    fold.open = true;
    choice.checked = true;
    fold.querySelector("textarea").focus();
  };

  cases.forEach((item, number) => item.addEventListener("focusin", () => { place = number; }));
  document.querySelectorAll("details.decide form").forEach((form) => {
    form.addEventListener("submit", () => sessionStorage.setItem(PLACE, String(place)));
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=radio]), textarea, select");
    if (event.key === "Escape" && place >= 0) {
      const fold = cases[place].querySelector("details.decide");
      if (fold) fold.open = false;
      move(place);
      return;
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "j") move(place + 1);
    else if (event.key === "k") move(place - 1);
    else if (event.key === "Enter" && event.target === cases[place]) cases[place].querySelector("a.open").click();
    else if (event.key in decisions && place >= 0) decide(decisions[event.key]);
    else return;
    event.preventDefault();
  });
  const kept = sessionStorage.getItem(PLACE);
  if (kept !== null) {
    sessionStorage.removeItem(PLACE);
    move(Number(kept));
  }
})();
