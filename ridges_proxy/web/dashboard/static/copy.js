// Copies an id by a click on the button beside it, and says that it did.
"use strict";

(() => {
  const SHOWN_MILLISECONDS = 3000;
  const said = document.getElementById("copied");
  let timer;

  document.documentElement.classList.add("js"); // shows the buttons

  function say(text) {
    said.textContent = text;
    clearTimeout(timer);
    timer = setTimeout(() => (said.textContent = ""), SHOWN_MILLISECONDS);
  }

  /** Copy without the clipboard API, which browsers have only on https:// and on localhost. */
  function copyBySelection(text, focused) {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "unseen";
    document.body.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    focused.focus({ preventScroll: true });
    return copied;
  }

  async function copy(text, focused) {
    if (!navigator.clipboard) return copyBySelection(text, focused);
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return copyBySelection(text, focused);
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.(".copy");
    if (!button) return;
    const text = button.closest(".copyable").querySelector(".id").textContent;
    say((await copy(text, button)) ? "Copied" : "Not copied: select the text, and copy it yourself");
  });
})();
