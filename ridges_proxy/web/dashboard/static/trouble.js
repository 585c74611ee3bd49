// Has a screen reader say what is wrong when that changes. The refreshes of the page change only numbers in it.
"use strict";

(() => {
  const spoken = document.getElementById("spoken");
  if (!spoken) return;

  function say() {
    const names = [...document.querySelectorAll("#trouble li a")].map((link) => link.textContent);
    const text = names.length ? `${names.join(". ")}.` : spoken.textContent && "All is well.";
    if (text !== spoken.textContent) spoken.textContent = text;
  }

  say();
  document.addEventListener("htmx:after:swap", say);
})();
