"""A server that imitates Chutes, with each of its known failures selectable.

`python -m ridges_proxy.fake_chutes [--host 127.0.0.1] [--port 0] [--price-usd-per-mtok 0.27]
[--embedding-usd-per-second 0.0001] [--model-price NAME=INPUT,OUTPUT]…` prints `fake Chutes on
http://HOST:PORT` and serves `POST /v1/chat/completions`, `POST /embed`, `GET /v1/models` until SIGTERM. The
prices are USD, for models per million tokens. Any bearer token is accepted, except `wrong-key`.

A request with `n` gets n choices, each with one event for a word. Its prompt is billed once (`greedy`: n
times); max_tokens limits each choice. With `response_format` json_object or json_schema the words form one
JSON object (not by the schema; use `answer` for that). `logprobs` and `top_logprobs` are answered.

More than 32 inputs of an embedding are TEI's 413, none are a 422.

Directives
==========
A request chooses its answer by a JSON object in the text of any message (or of the embedding's input); the
last one counts: `[[fake-chutes {"fault": "cut", "after": 3}]]`. A request without one gets
the default directive of the control API. An unknown key, value or fault is a 400 that names it.

`events`             content events (5); each is one completion token
`answer`             this text instead, one event for each word
`pause_ms`           before every content event; between the bytes of `trickle` (0)
`first_ms`           before the status line (0)
`ignore_max_tokens`  without it, max_tokens limits the content events, with finish_reason `length`
`usage`              `end`: one event with the usage at the end (without this key: only if the request has
                     stream_options.include_usage) · `none` · `null`: `usage: null` in each event, none at the
                     end · `each`: running usage in each event and at the end · `chunks`: the same, but only
                     as far as the request's stream_options ask for it · `below`, `above`: a tenth, ten
                     times the truth · an object: sent as it is
`reasoning`          number of deltas of `reasoning_content` before the content, one token each
`hidden`             number of tokens that are generated after the role, billed and not sent (0; max_tokens
                     limits them): `hidden_per_second` (1,000). A client that leaves ends them. Meanwhile
                     `alive` sends a sign of life every 0.1 s: `comments` or (empty) `chunks`
`refuses_chunk_usage`  a request with stream_options.continuous_usage_stats is a 400 that names the option
`tool_calls`         number of calls of the request's tools instead of content (no tools: 400), in order:
                     id, name and empty arguments; then `events` + 2 pieces of the arguments, each an event
                     and a token; finish_reason `tool_calls`. Instead of a number, a list of
                     `{"name": …, "arguments": {…}}`: these calls, each in one piece
`then`               the directive of the next turn, when the model has answered: it counts for a request with
                     one answer behind the message of the directive (assistant messages in a row are one),
                     its own `then` for one with two, and so on; the last one stays
`cached_tokens`      usage.prompt_tokens_details.cached_tokens; the bill does not change
`greedy`             bills and reports bytes of roles, contents, calls and tools + 8 a message (an image_url
                     part counts its URL's bytes, at least 16,384), and all of max_tokens; both n times
`gate`, `gate_at`    waits before the status line (`"headers"`, the default) or after a number of content
                     events, until the gate opens, for at most 60 s; an open gate stays open until a reset
`step`               before each content event: waits for one permit of this name, for at most 60 s
`fault`, `after`     the fault, and the number of content events before it (1)
`billed`             a request that gets no answer (close, reset, hang, client gone) bills the greedy amounts
`label`              any text, for the record of the call

Faults
======
Statuses, with the bodies of Chutes: `auth_required`, `auth_invalid` 401 · `quota`, `quota_plain` 402 ·
`model_not_found`, `no_cord` 404 · `invalid_request`, `invalid_request_dict` 400 · `at_capacity`,
`maintenance`, `spam` 429 · `no_instances` 503 · `exhausted`, `no_result` 500 ·
`gateway_timeout` 504 (with `billed`, after `first_ms` of work that is billed).
No answer at all: `close`, `reset` (RST), `hang`.
Instead of the answer: `html`, `redirect` (307 to /v1/elsewhere).
The answer stops after `after` events (a whole answer: after half of its bytes): `cut` (no last chunk),
`reset_mid` (RST), `stall`.
Streams only: `error_line` (no `data:`) and then a clean end; `no_done_no_finish` (a clean end after `after`
events), `no_done`, `cut_after_finish`, `cut_after_usage`; `restart` (a second stream with another id, from
the start: the count of tokens starts again too); `endless`; `split` (one byte a chunk), `trickle` (one byte
each `pause_ms`), `crlf` (and no space after `data:`), `comments` (`: ping`); `json_whole` (one JSON
completion instead of a stream).
Streams and whole completions: `error_first` (an error object with the code 400 in place of the answer),
`error_event`, `status_body` (the whole body, unless `after` is given),
`no_finish`, `empty`, `null_content`, `reasoning_only`, `other_model`, `error_text`.
Anywhere: `malformed` (in a stream one such event, then it goes on), `cookie`, `gzip`, `wrong_length`.
Embedding only: `too_long` (for inputs above 512 tokens, Chutes' 200 with an error).

Control, on the same port, without a key
========================================
`GET /fake-chutes/books`                  every call and the counters; a call shows from its first moment;
                                       `body` (without messages or inputs) for the last 1,000 calls
`GET /fake-chutes/bills`                  nano-USD by model; embeddings under `/embed`
`POST /fake-chutes/reset`                 forgets calls, default and permits, and lets waiting calls continue
`GET /fake-chutes/faults`                 the faults of a `stream`, of a whole `chat`, of an `embed`
`POST /fake-chutes/default`               the body is the directive of requests that have none
`POST /fake-chutes/release?gate=NAME`     opens a gate
`POST /fake-chutes/step?gate=NAME`        gives one permit of this name; it is kept until a call needs it
`GET /fake-chutes/wait?in_flight=50&…`    answers once all conditions hold, 504 after `timeout_seconds` (10);
                                       `in_flight`, `finished`, `client_gone`, `at_gate` (gates and
                                       steps): at least; `idle=1`;
                                       no condition at all: the counters at once
"""
