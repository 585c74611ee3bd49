// Shows the OpenAPI document in Swagger UI.
"use strict";

const docs = document.getElementById("docs");
SwaggerUIBundle({
  url: docs.dataset.document,
  domNode: docs,
  deepLinking: true,
  validatorUrl: null, // else Swagger UI sends the document to a public server
});
