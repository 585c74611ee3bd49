// Shows the document, to read and to try.
"use strict";

const docs = document.getElementById("docs");
SwaggerUIBundle({
  url: docs.dataset.document,
  domNode: docs,
  deepLinking: true,
  validatorUrl: null, // the document goes nowhere
});
