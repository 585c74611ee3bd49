"""Prompt tokens that the upstream reported, and the bounds of later prompts that follow from them.

An upstream's report for a list of messages is the exact count of that list, with the template included. The
next prompt of the conversation needs a bound only for its new messages:

    bound = the longest known beginning of the list
          + the known sequences of messages behind it
          + the bound of each other message
          + SEAM_TOKENS for each of these pieces

The table keeps the count of each complete list. For each sequence of messages it keeps the difference between
the counts of a list with it and of the same list without it. It keeps only digests and numbers.

This is a true bound for every template that writes message after message. For others:

- Earlier reasoning is dropped when a user message follows: the list gets shorter, so a known beginning stays
  an upper bound. A difference would be too small, so no sequence is learned from a list with reasoning.
- A template writes something for each assistant message behind the last user message, or only for the earlier
  ones (an empty block of reasoning): USER_TURN_TOKENS for each earlier message is added when a user message
  follows a known beginning. No sequence is learned from a list where this may have changed.
- A system text or the tools are moved into the last user message: they are written once in any case.
- A tool message may show the name of the called function: it is known only behind the same call.
- The tools may be written again at a user message that equals the last one. So in a request with tools, no
  sequence that has a user message is used.
- An image that the upstream fetches by its URL can change: a list with one is never learned.
- The generation prompt is part of each count, so a known beginning counts it once more, which is safe.
- A template writes the date: its length changes by a token at most, which SEAM_TOKENS cover.

An upstream may route a model to engines with different templates: the largest count of a list is kept. If a
report is above its bound, everything that was learned about the model is dropped.
"""

from __future__ import annotations

import re
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from ridges_proxy.billing.repeats import PLAIN_ROLES
from ridges_proxy.runtime.shared_table import KEY_BYTES, MAX_TAGS, TAG_BYTES, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ridges_proxy.billing.prompt import Prompt
    from ridges_proxy.runtime.shared_table import SharedTable

SEAM_TOKENS = 8
"""Allowance where two pieces meet: a template's markers between two messages, and a tokenizer's merges."""

USER_TURN_TOKENS = 2
"""Allowance for each earlier message when a user message follows a known beginning: DeepSeek-V3.1 and GLM
write one or two tokens for an assistant message, by its place before or behind the last user message."""

MAX_SEQUENCE = 16
"""Messages in the longest sequence that is learned. A step of an agent has two, with parallel calls more."""

SHARING_RUNS = MAX_TAGS
"""Runs that must have sent the same messages before others may use the count: an estimate must not tell what
one other run has sent."""

NOT_RENDERED = frozenset(
    {
        "frequency_penalty",
        "ignore_eos",
        "include_stop_str_in_output",
        "logit_bias",
        "logprobs",
        "min_p",
        "min_tokens",
        "presence_penalty",
        "prompt_cache_key",
        "repetition_penalty",
        "safety_identifier",
        "seed",
        "service_tier",
        "skip_special_tokens",
        "stop",
        "stop_token_ids",
        "store",
        "temperature",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
    }
)
"""Fields that no template can render: they control sampling, or name the client."""

_REASONING = re.compile(rb'"reasoning|"thinking|</?think|\[/?THINK|<\|channel\|>|<seed:think')
"""Marks of reasoning in messages. A list with one may be written in different lengths."""

_REMOTE_IMAGE = re.compile(rb'"image_url"(?s:.*?)"url":"(?!data:)')
"""An image that the upstream fetches. Quotes inside a text are escaped, so a text cannot look like it."""


class Piece(NamedTuple):
    """Messages of a prompt whose tokens are bounded together."""

    start: int
    end: int
    bound: int
    known: bool


class LearnedCounts:
    """The counts that a process, or all workers of a server, have learned."""

    def __init__(self, table: SharedTable, secret: bytes) -> None:
        """`secret` keys the digests, so that they do not tell which messages they stand for."""
        self._table = table
        self._secret = blake2b(secret, digest_size=KEY_BYTES).digest()

    def of(self, prompt: Prompt, model: bytes, rendered: bytes, run_id: str) -> PromptCounts:
        """Return the counts that one run knows about a prompt.

        `model` names the model and its upstream, `rendered` is every other field that a template may render.
        """
        generation_key = _digest(self._secret, b"generation", model)
        generation = _generation(self._table, generation_key)
        salt = _digest(self._secret, b"scope", model, rendered, b"%d" % generation)
        tag = _digest(self._secret, b"run", run_id.encode())[:TAG_BYTES]
        return PromptCounts(self._table, prompt, salt, tag, generation_key, has_tools=b'"tools":' in rendered)


class PromptCounts:
    """The counts that one run knows about one prompt."""

    def __init__(  # noqa: PLR0913 - created in one place only
        self,
        table: SharedTable,
        prompt: Prompt,
        salt: bytes,
        tag: bytes,
        generation_key: bytes,
        *,
        has_tools: bool,
    ) -> None:
        self._table, self._prompt, self._salt, self._tag = table, prompt, salt, tag
        self._generation_key, self._has_tools = generation_key, has_tools
        self._chain = list(_chain(prompt.parts, salt))
        self._head = _leading_system_messages(prompt.roles)

    def bound_tokens(self) -> int:
        """Return the maximum tokens of the prompt, at most the bound by its bytes."""
        prompt = self._prompt
        count = len(prompt.parts)
        prefix, tokens, _ = self._longest_prefix(count)
        if prefix == count:
            return min(prompt.tokens, tokens + SEAM_TOKENS)
        total = tokens if prefix else prompt.call_bound
        if prefix and "user" in prompt.roles[prefix:]:
            total += prefix * USER_TURN_TOKENS
        for piece in self._pieces(prefix):
            total += piece.bound + SEAM_TOKENS
        return min(prompt.tokens, total)

    def learn(self, reported_tokens: int) -> None:
        """Keep the reported count of the prompt, and what follows from it about its parts."""
        count = len(self._prompt.parts)
        prefix, tokens, has_reasoning = self._longest_prefix(count - 1)
        new_parts = self._prompt.parts[prefix:]
        if not new_parts or any(map(_REMOTE_IMAGE.search, new_parts)):
            return  # a known beginning has no such image: it would not have been learned
        has_reasoning = has_reasoning or any(map(_REASONING.search, new_parts))
        if prefix and not has_reasoning and _keeps_form(self._prompt.roles, prefix):
            self._learn_sequence(prefix, tokens, reported_tokens)
        self._keep(self._chain[count - 1], reported_tokens, max, has_reasoning=has_reasoning)
        if 0 < self._head < count:
            self._keep(self._head_key(), reported_tokens, min, has_reasoning=has_reasoning)

    def forget_model(self) -> None:
        """Drop all that was learned about the prompt's model, after a report above its bound."""
        generation = _generation(self._table, self._generation_key)
        self._table.put(self._generation_key, Record(generation + 1, ()))

    def _learn_sequence(self, prefix: int, prefix_tokens: int, reported_tokens: int) -> None:
        """Learn the sequence that is unknown behind the known beginning, if there is just one."""
        pieces = list(self._pieces(prefix))
        unknown = [piece for piece in pieces if not piece.known]
        if not unknown:
            return
        start, end = unknown[0].start, unknown[-1].end
        has_gap = any(piece.known and start < piece.start < end for piece in pieces)
        tokens = reported_tokens - prefix_tokens - sum(piece.bound for piece in pieces if piece.known)
        if has_gap or end - start > MAX_SEQUENCE or tokens <= 0:
            return
        self._keep(self._sequence_key(start, end), tokens, max)
        first = self._key(b"first", self._message(start))
        record = self._table.get(first)
        self._table.put(first, Record((record.number if record else 0) | 1 << (end - start - 1), ()))

    def _longest_prefix(self, limit: int) -> tuple[int, int, bool]:
        """Return the length and the tokens of the longest known beginning, and whether it has reasoning."""
        for length in range(limit, 0, -1):
            number = self._number(self._chain[length - 1])
            if number is None and length == self._head:
                number = self._number(self._head_key())
            if number is not None:
                return length, number >> 1, bool(number & 1)
        return 0, 0, False

    def _pieces(self, start: int) -> Iterator[Piece]:
        """Yield the known sequences from a message on, the longest first, and each other message."""
        while start < len(self._prompt.parts):
            piece = self._sequence_at(start) or Piece(
                start, start + 1, self._prompt.bounds[start], known=False
            )
            yield piece
            start = piece.end

    def _sequence_at(self, start: int) -> Piece | None:
        """Return the longest known sequence that begins with this message."""
        record = self._table.get(self._key(b"first", self._message(start)))
        lengths = record.number if record else 0
        for length in range(min(MAX_SEQUENCE, len(self._prompt.parts) - start), 0, -1):
            roles = self._prompt.roles[start : start + length]
            if lengths >> (length - 1) & 1 and not (self._has_tools and "user" in roles):
                number = self._number(self._sequence_key(start, start + length))
                if number is not None:
                    bound = min(number >> 1, sum(self._prompt.bounds[start : start + length]))
                    return Piece(start, start + length, bound, known=True)
        return None

    def _message(self, index: int) -> bytes:
        """Return a message as it is recognized: a tool's result together with the call that it answers.

        A result that does not answer the calls before it is recognized only behind the same messages.
        """
        parts, roles = self._prompt.parts, self._prompt.roles
        if roles[index] in PLAIN_ROLES:
            return parts[index]
        caller = next((at for at in range(index - 1, -1, -1) if roles[at] in PLAIN_ROLES), index)
        call_id = orjson.loads(parts[index]).get("tool_call_id")
        answers = isinstance(call_id, str) and orjson.dumps(call_id) in parts[caller]
        return parts[index] + (parts[caller] if answers else self._chain[index])

    def _head_key(self) -> bytes:
        """Return the key of the leading system messages as the beginning of longer lists."""
        return self._key(b"head", self._chain[self._head - 1])

    def _sequence_key(self, start: int, end: int) -> bytes:
        return self._key(b"sequence", self._message(start), *self._prompt.parts[start + 1 : end])

    def _key(self, *parts: bytes) -> bytes:
        return _digest(self._salt, *parts)

    def _number(self, key: bytes) -> int | None:
        record = self._table.get(key)
        if record is None or (self._tag not in record.tags and len(record.tags) < SHARING_RUNS):
            return None
        return record.number

    def _keep(
        self,
        key: bytes,
        tokens: int,
        better: Callable[[int, int], int],
        *,
        has_reasoning: bool = False,
    ) -> None:
        """Keep the better number; this run knows it from now on."""
        number = tokens << 1 | has_reasoning
        record = self._table.get(key) or Record(number, ())
        tags = record.tags
        if self._tag not in tags and len(tags) < SHARING_RUNS:
            tags = (*tags, self._tag)
        self._table.put(key, Record(better(record.number, number), tags))


def rendered_fields(fields: Mapping[str, Any]) -> bytes:
    """Return the fields beside the messages that a template may render, as one text."""
    rendered = {name: value for name, value in fields.items() if name not in NOT_RENDERED}
    return orjson.dumps(rendered, option=orjson.OPT_SORT_KEYS)


def _generation(table: SharedTable, key: bytes) -> int:
    """Return how often all that was learned about a model was dropped. It is a part of all keys."""
    record = table.get(key)
    return record.number if record else 0


def _digest(key: bytes, *parts: bytes) -> bytes:
    return blake2b(b"\0".join(parts), digest_size=KEY_BYTES, key=key).digest()


def _chain(parts: tuple[bytes, ...], salt: bytes) -> Iterator[bytes]:
    """Yield the digest of each beginning of a list, computed in one pass.

    SHA-256 takes 70 % of the time of BLAKE2b here: processors have instructions for it.
    """
    running = sha256(salt)
    for part in parts:
        running.update(part)
        yield running.copy().digest()[:KEY_BYTES]


def _leading_system_messages(roles: tuple[str, ...]) -> int:
    count = 0
    for role in roles:
        if role not in {"system", "developer"}:
            break
        count += 1
    return count


def _keeps_form(roles: tuple[str, ...], prefix: int) -> bool:
    """Whether the first `prefix` messages are written in a longer list as in the list of them alone.

    A later system text may be moved, and a user message may change how the assistant messages behind the last
    user message are written.
    """
    later = roles[prefix:]
    if "system" in later or "developer" in later:
        return False
    if "user" not in later:
        return True
    for role in reversed(roles[:prefix]):
        if role == "assistant":
            return False
        if role == "user":
            return True
    return True
