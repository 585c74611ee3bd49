"""HTTP: routes, request schemas, authentication, responses and errors."""
