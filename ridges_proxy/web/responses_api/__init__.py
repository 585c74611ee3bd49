"""`POST /v1/responses` on top of a chat completion: the request as a chat, the answer as a Response."""
