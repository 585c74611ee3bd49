"""Prompt tokens that the upstream reported, and the bounds of later prompts that follow from them.

An upstream's report for a list of messages is the exact count of that list, with the template included. The
next prompt of the conversation needs a bound only for its new messages:

    bound = the longest known beginning of the list
          + the known sequences of messages behind it
          + the bound of each other message
          + SEAM_TOKENS for each of these pieces

The table keeps only digests and numbers:

- The count of each complete list. It is the exact count of a beginning of longer lists.
- The smallest count of all lists with a certain beginning, for the beginning without the last message and for
  the leading system messages. It is an upper limit of the beginning's own count.
- For each sequence of messages, the difference between the count of a list with it and the counts of the
  list's other pieces.
- The same difference behind a beginning of which only the limit is known. The difference is then too small,
  by as much as the limit is too large. So it belongs to this limit, and a bound has one such difference at
  most. A list with one gives the next sequence its own count. An agent that sends its first and its last
  messages depends on this: the beginning that it sends is never a complete list.

This is a true bound for every template that writes message after message. For others:

- Earlier reasoning is dropped when a user message follows: the list gets shorter, so the count of a complete
  list stays an upper bound. A difference would be too small, so a list with reasoning gives no sequence, and
  a limit for its leading system messages only.
- A template writes something for each assistant message behind the last user message, or only for the earlier
  ones (an empty block of reasoning): USER_TURN_TOKENS for each one of a known beginning are added where this
  may have changed. No sequence is learned from a list where this may have changed.
- A system text or the tools are moved into the last user message: they are written once in any case.
- A tool message may show the name of the called function: it is known only behind the same call.
- What is around a message changes how it is written: results in a row are joined, a user message begins the
  answer to it, the last message gets an empty block of reasoning. SEAM_TOKENS cover that once. The sum for
  many known sequences of a list would be missing from the one that is learned from it. So a sequence is known
  only between messages of the same kinds. None is learned from a list that ends with an assistant message.
- The tools may be written again at a user message that equals the last one. So in a request with tools, no
  sequence that has a user message is used, and no limit of a beginning that has the last user message.
- An image that the upstream fetches by its URL can change: a list with one is never learned.
- An image may get fewer tokens when more images follow (LLaVA-OneVision): the same as for reasoning.
- The generation prompt is part of each count, so a known beginning counts it once more, which is safe.
- A template writes the date: its length changes by a token at most, which SEAM_TOKENS cover.

An upstream may route a model to engines with different templates: the largest count of a list is kept. If a
report is above its bound, everything that was learned about the model is dropped.
"""

from __future__ import annotations

import re
import secrets
from functools import lru_cache, partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from ridges_proxy.billing.prompt_keys import PromptKeys, digest
from ridges_proxy.billing.run_numbers import RunNumbers
from ridges_proxy.runtime.shared_table import KEY_BYTES, TAG_BYTES, Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ridges_proxy.billing.prompt import Prompt
    from ridges_proxy.runtime.shared_table import SharedTable

SEAM_TOKENS = 8
"""Allowance where two pieces meet: a template's markers between two messages, and a tokenizer's merges."""

USER_TURN_TOKENS = 4
"""Allowance for each assistant message of a known beginning when a user message follows. By its place before
or behind the last user message, DeepSeek-V3.1 and GLM write one or two tokens for it, and Qwen3.5 an empty
block of reasoning."""

MAX_SEQUENCE = 16
"""Messages in the longest sequence that is learned. A step of an agent has two, with parallel calls more."""

MAX_MODELS = 64
"""Models whose key stays computed."""

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
        "repetition_penalty",
        "safety_identifier",
        "seed",
        "service_tier",
        "skip_special_tokens",
        "stop",
        "stop_token_ids",
        "temperature",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
    }
)
"""Fields that no template can render: they control sampling, or name the client."""

REASONING_MARKS = (
    b'"reasoning',
    b'"thinking',
    b"<think",
    b"</think",
    b"[THINK",
    b"[/THINK",
    b"<|channel|>",
    b"<seed:think",
)
"""Marks of reasoning in messages. A list with one may be written in different lengths."""

_IN_REASONING_MARKS = (b"think", b"THINK", b'"reasoning', b"<|channel|>")
"""Each mark has one of these. Four searches instead of eight take half the time for most messages."""

_IMAGE = b'"image_url"'
_REMOTE_IMAGE = re.compile(_IMAGE + rb'(?s:.*?)"url":"(?!data:)')
"""An image that the upstream fetches. Quotes inside a text are escaped, so a text cannot look like it."""


class Beginning(NamedTuple):
    """The first messages of a prompt, and what is known of their tokens."""

    length: int
    tokens: int
    is_exact: bool = False
    """Whether a list of just these messages was counted. Otherwise `tokens` is an upper limit."""
    may_shrink: bool = False
    """Whether messages behind it may make it shorter: it has reasoning or images."""


class Piece(NamedTuple):
    """Messages of a prompt whose tokens are bounded together."""

    start: int
    end: int
    bound: int
    is_known: bool = True
    is_relative: bool = False
    """Whether the number is right only together with the limit of the list's beginning."""


class LearnedCounts:
    """The counts that a process, or all workers of a server, have learned."""

    def __init__(self, table: SharedTable, secret: bytes) -> None:
        """`secret` keys the digests, so that they do not tell which messages they stand for."""
        self._table = table
        self._secret = blake2b(secret, digest_size=KEY_BYTES).digest()
        self._generation_key = lru_cache(MAX_MODELS)(partial(digest, self._secret, b"generation"))

    def of(self, prompt: Prompt, model: bytes, rendered: bytes, run_id: str) -> PromptCounts:
        """Return the counts that one run knows about a prompt.

        `model` names the model and its upstream, `rendered` is every other field that a template may render.
        """
        generation_key = self._generation_key(model)
        generation = _generation(self._table, generation_key)
        salt = digest(self._secret, b"scope", model, rendered, b"%d" % generation)
        tag = digest(self._secret, b"run", run_id.encode())[:TAG_BYTES]
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
        self._table, self._prompt, self._numbers = table, prompt, RunNumbers(table, tag)
        self._generation_key, self._has_tools = generation_key, has_tools
        self._found: list[Beginning] = []
        self._pieces_behind: dict[Beginning, list[Piece]] = {}
        self._head = _leading_system_messages(prompt.roles)
        self._keys = PromptKeys(prompt, salt, self._head)

    def bound_tokens(self) -> int:
        """Return the maximum tokens of the prompt, at most the bound by its bytes."""
        if not self._table.capacity:
            return self._prompt.tokens
        self._found = self._beginnings(len(self._prompt.parts))
        return min(self._prompt.tokens, *map(self._total, self._found))

    def learn(self, reported_tokens: int) -> None:
        """Keep the reported count of the prompt, and what follows from it about its parts."""
        if not self._table.capacity:
            return
        if self._has_tools and "user" not in self._prompt.roles:
            return  # the tools may not be in the count: Mistral writes them at a user message
        count = len(self._prompt.parts)
        beginning = self._found[-1] if self._found else None
        if beginning is None or beginning.length == count:
            beginning = self._beginnings(count - 1)[-1]
        new_parts = self._prompt.parts[beginning.length :]
        new = b"".join(new_parts)
        has_image = _IMAGE in new
        if not new or (has_image and any(map(_REMOTE_IMAGE.search, new_parts))):
            return  # a known beginning has no such image: it would not have been learned
        may_shrink = beginning.may_shrink or has_image or _has_reasoning(new)
        if not may_shrink and self._keeps_form(beginning):
            self._learn_sequence(beginning, reported_tokens)
        self._numbers.keep(self._keys.exact(count), reported_tokens << 1 | may_shrink, max)
        if 0 < self._head < count:
            self._numbers.keep(self._keys.limit(self._head), reported_tokens, min)
        if self._head < count - 1 and not may_shrink:
            self._numbers.keep(self._keys.limit(count - 1), reported_tokens, min)

    def forget_model(self) -> None:
        """Drop all that was learned about the prompt's model, after a report above its bound."""
        self._table.put(self._generation_key, Record(secrets.randbits(31), ()))

    def _total(self, beginning: Beginning) -> int:
        """Return the maximum tokens of the prompt that follow from what is known of its beginning."""
        length, tokens, roles = beginning.length, beginning.tokens, self._prompt.roles
        if not beginning.is_exact or "user" in roles[length:]:
            tokens += roles[:length].count("assistant") * USER_TURN_TOKENS
        if length == len(roles):
            return tokens + SEAM_TOKENS
        return tokens + sum(piece.bound + SEAM_TOKENS for piece in self._pieces_of(beginning))

    def _learn_sequence(self, beginning: Beginning, reported_tokens: int) -> None:
        """Learn the sequence that is unknown behind the known beginning, if there is just one."""
        unknown: list[int] = []
        tokens, is_exact = reported_tokens - beginning.tokens, beginning.is_exact
        for piece in self._pieces_of(beginning):
            if piece.is_known:
                tokens -= piece.bound
                is_exact = is_exact or piece.is_relative
            else:
                unknown.append(piece.start)
        if not unknown or len(unknown) > MAX_SEQUENCE or tokens <= 0:
            return
        start, end = unknown[0], unknown[-1] + 1
        if end - start > len(unknown):
            return  # known messages are between them
        scope = b"" if is_exact else self._limit_scope(beginning)
        self._numbers.keep(self._keys.sequence(scope, start, end), tokens, max)
        length = 1 << (end - start - 1)
        self._table.update(
            self._keys.message(start), lambda record: Record((record.number if record else 0) | length, ())
        )

    def _beginnings(self, limit: int) -> list[Beginning]:
        """Return what is known of the prompt's beginnings: the longest limit, then the longest exact count.

        There is a limit only if it is of more messages. Without an exact count, the last one is the limit, or
        that of no messages.
        """
        found: list[Beginning] = []
        for length in range(limit, 0, -1):
            if (number := self._numbers.get(self._keys.exact(length))) is not None:
                return [*found, Beginning(length, number >> 1, True, bool(number & 1))]
            if found or not self._may_have_limit(length):
                continue
            if (number := self._numbers.get(self._keys.limit(length))) is not None:
                found.append(Beginning(length, number))
        return found or [Beginning(0, self._prompt.call_bound)]

    def _may_have_limit(self, length: int) -> bool:
        """Whether the count of a longer list limits what its beginning has in this list, with the tools."""
        first, last = self._keys.first_user, self._keys.last_user
        return not self._has_tools or last >= length or first >= last

    def _pieces_of(self, beginning: Beginning) -> list[Piece]:
        """Return the pieces behind a beginning. Both the bound and what is learned need them."""
        if beginning not in self._pieces_behind:
            self._pieces_behind[beginning] = list(self._pieces(beginning))
        return self._pieces_behind[beginning]

    def _pieces(self, beginning: Beginning) -> Iterator[Piece]:
        """Yield the known sequences behind a beginning, the longest first, and each other message."""
        start = beginning.length
        scope = b"" if beginning.is_exact else self._limit_scope(beginning)
        while start < len(self._prompt.parts):
            piece = self._sequence_at(start, scope) or Piece(
                start, start + 1, self._prompt.bounds[start], is_known=False
            )
            if piece.is_relative:
                scope = b""
            yield piece
            start = piece.end

    def _sequence_at(self, start: int, scope: bytes) -> Piece | None:
        """Return the longest known sequence that begins with this message.

        With a scope, it may be one whose number belongs to the limit of the beginning.
        """
        record = self._table.get(self._keys.message(start))
        if record is None:
            return None
        for length in range(min(MAX_SEQUENCE, len(self._prompt.parts) - start), 0, -1):
            end = start + length
            if not record.number >> (length - 1) & 1 or (
                self._has_tools and "user" in self._prompt.roles[start:end]
            ):
                continue
            for each in (b"", scope) if scope else (b"",):
                number = self._numbers.get(self._keys.sequence(each, start, end))
                if number is not None:
                    bound = min(number, sum(self._prompt.bounds[start:end]))
                    return Piece(start, end, bound, is_relative=bool(each))
        return None

    def _limit_scope(self, beginning: Beginning) -> bytes:
        """Return what names the limit of a beginning in the keys of the sequences behind it.

        A template's own text, the beginning of no messages, may depend on the role of the first message.
        """
        length, tokens = beginning.length, beginning.tokens
        start = self._keys.limit(length) if length else self._prompt.roles[0].encode()
        return start + b" %d" % tokens

    def _keeps_form(self, beginning: Beginning) -> bool:
        """Whether each message of the beginning is written in this list as in other lists that begin so.

        A later system text may be moved. The last message may get a block of reasoning if its role is
        assistant. A user message may change how the assistant messages behind the last user message are
        written, and where the tools are.
        """
        roles = self._prompt.roles
        earlier, later = roles[: beginning.length], roles[beginning.length :]
        if roles[-1] == "assistant":
            return False
        if "system" in (later if earlier else later[1:]) or "developer" in later:
            return False
        if not beginning.is_exact:
            return "assistant" not in earlier and earlier.count("user") <= 1
        if "user" not in later:
            return True
        last = next((role for role in reversed(earlier) if role in {"assistant", "user"}), "user")
        return last == "user"


def rendered_fields(fields: Mapping[str, Any]) -> bytes:
    """Return the fields beside the messages that a template may render, as one text.

    A template writes the keys inside a field in their order, which changes the tokens at their ends.
    """
    return orjson.dumps({name: fields[name] for name in sorted(fields.keys() - NOT_RENDERED)})


def _generation(table: SharedTable, key: bytes) -> int:
    """Return a part of all keys of a model. It changes when all that was learned about the model is dropped.

    It is random: if the table has lost it, what was dropped before must not come back.
    """
    record = table.get(key)
    if record is None:
        record = Record(secrets.randbits(31), ())
        table.put(key, record)
    return record.number


def _has_reasoning(messages: bytes) -> bool:
    for short in _IN_REASONING_MARKS:
        if short in messages:
            return any(mark in messages for mark in REASONING_MARKS)
    return False


def _leading_system_messages(roles: tuple[str, ...]) -> int:
    count = 0
    for role in roles:
        if role not in {"system", "developer"}:
            break
        count += 1
    return count
