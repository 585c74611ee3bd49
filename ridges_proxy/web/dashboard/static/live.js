// Says how old the figures of a live page are, and pauses its refreshes: on request, and while the page is hidden.
// A live page has an element #live with hx-get, which htmx refreshes every few seconds.
"use strict";

(() => {
  const live = () => document.querySelector("#live[hx-get]");
  const age = document.getElementById("updated");
  const button = document.getElementById("pause");
  if (!age || !live()) return;

  const timeFormat = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
  let updatedAt = Date.now();
  let isPaused = false;
  let failure = "";

  function ageText() {
    const seconds = Math.max(0, Math.round((Date.now() - updatedAt) / 1000));
    return seconds < 60 ? `${seconds} s ago` : `${Math.floor(seconds / 60)} min ago`;
  }

  function show() {
    const since = timeFormat.format(updatedAt);
    age.classList.toggle("bad", failure !== "" && !isPaused);
    if (isPaused) age.textContent = `Paused. Updated ${ageText()}, at ${since}.`;
    else if (failure) age.textContent = `Not updated since ${since}: ${failure}.`;
    else age.textContent = `Updated ${ageText()}.`;
  }

  function refresh() {
    htmx.trigger(live(), "every");
  }

  const isRefresh = (context) => context.sourceEvent?.type === "every";
  const isOfPage = (context) => context?.target?.id === "live";

  document.addEventListener("htmx:before:request", (event) => {
    if (isRefresh(event.detail.ctx) && (isPaused || document.hidden)) event.preventDefault();
  });
  document.addEventListener("htmx:after:request", (event) => {
    const { ctx } = event.detail;
    if (!isOfPage(ctx)) return;
    failure = ctx.response.status < 400 ? "" : `the server answered ${ctx.response.status}`;
    if (!failure) updatedAt = Date.now();
    show();
  });
  document.addEventListener("htmx:error", (event) => {
    if (!isOfPage(event.detail.ctx)) return;
    failure = "the server does not answer";
    show();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !isPaused) refresh();
  });
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.textContent = isPaused ? "Resume" : "Pause";
    show();
    if (!isPaused) refresh();
  });

  button.hidden = false;
  show();
  setInterval(show, 1000);
})();
