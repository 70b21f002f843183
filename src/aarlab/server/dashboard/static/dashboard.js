// Live parts: ask again, swap only what changed, say when the server does not answer.
"use strict";
(() => {
  const tags = new WeakMap();
  const offline = document.getElementById("offline");
  const SILENT_MS = 10000;

  const tell = (text, link) => {
    if (!offline) return;
    offline.textContent = text;
    if (link) {
      const to = document.createElement("a");
      to.href = location.href;
      to.textContent = link;
      offline.append(" ", to);
    }
    offline.hidden = !text;
  };
  const silent = () => tell("The server does not answer. This page continues by itself when it does.");

  // Shared with curve.js: one GET with the ETag of the last answer; null where nothing changed.
  window.aarlabFetch = async (url, state) => {
    const headers = state.tag ? { "If-None-Match": state.tag } : {};
    const signal = AbortSignal.timeout(SILENT_MS); // a machine that sleeps refuses nothing
    try {
      const answer = await fetch(url, { headers, signal, cache: "no-store", credentials: "same-origin" });
      if (answer.status === 401) tell("This session has ended.", "Log in again");
      if (answer.status === 304 || !answer.ok) return null;
      const fresh = await answer.json();
      tell("");
      state.tag = answer.headers.get("ETag");
      return fresh;
    } catch {
      silent();
      return null;
    }
  };

  document.addEventListener("htmx:configRequest", (event) => {
    const tag = tags.get(event.detail.elt);
    if (tag) event.detail.headers["If-None-Match"] = tag;
    if (event.detail.elt.classList.contains("live")) event.detail.timeout = SILENT_MS;
    event.detail.headers["Accept"] = "text/html";
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    const live = event.detail.elt.classList.contains("live");
    const busy = live && event.detail.elt.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
    if (live && (document.hidden || busy)) event.preventDefault();
  });
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    const request = event.detail.xhr;
    if (request.status === 200 || request.status === 304) tell("");
    if (request.status === 200) tags.set(event.detail.elt, request.getResponseHeader("ETag"));
    if (request.status === 401) tell("This session has ended.", "Log in again");
  });
  for (const event of ["htmx:sendError", "htmx:timeout"]) document.addEventListener(event, silent);
  document.addEventListener("keydown", (event) => {
    const inText = event.target.matches("textarea");
    if (inText && event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form.requestSubmit();
  });
})();
