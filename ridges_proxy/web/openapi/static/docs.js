// Shows the OpenAPI document in Swagger UI.
"use strict";

const docs = document.getElementById("docs");
SwaggerUIBundle({
  url: docs.dataset.document,
  domNode: docs,
  deepLinking: true,
  validatorUrl: null, // else Swagger UI sends the document to a public server
});

// Swagger UI has a dark look of its own, for a class of the root element.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
