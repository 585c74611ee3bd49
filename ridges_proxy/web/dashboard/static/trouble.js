// Has a screen reader say what is wrong when that changes. The refreshes of the page change only numbers in it.
// A refresh that fails because of the ledger leaves the page as it is, but its answer says what is wrong.
"use strict";

(() => {
  const spoken = document.getElementById("spoken");
  if (!spoken) return;

  function say() {
    const names = [...document.querySelectorAll("#trouble li a")].map((link) => link.textContent);
    const text = names.length ? `${names.join(". ")}.` : spoken.textContent && "All is well.";
    if (text !== spoken.textContent) spoken.textContent = text;
  }

  document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
    if (ctx.response.status < 400) return;
    const found = new DOMParser().parseFromString(ctx.text, "text/html").getElementById("trouble");
    const shown = document.getElementById("trouble");
    if (!found || !shown) return;
    shown.replaceWith(document.importNode(found, true));
    say();
  });

  say();
  document.addEventListener("htmx:after:swap", say);
})();
