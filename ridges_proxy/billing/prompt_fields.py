"""The fields of a request, beside the messages, that may become a part of the prompt."""

from __future__ import annotations

CONSTRAINT_FIELDS = frozenset(
    {
        "ebnf",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "guided_whitespace_pattern",
        "json_schema",
        "regex",
        "response_format",
        "structural_tag",
        "structured_outputs",
    }
)
"""Fields that constrain the answer: OpenAI's, and those of vLLM and SGLang. DeepSeek V3.2's template writes
`response_format` into the prompt. An engine may use the others in its place."""

REASONING_FIELDS = frozenset({"reasoning", "reasoning_effort", "thinking", "verbosity"})
"""Fields that control reasoning. Engines hand them to the template: that of gpt-oss writes the effort."""

RENDERED_FIELDS = CONSTRAINT_FIELDS | REASONING_FIELDS | {"tools", "tool_choice", "chat_template_kwargs"}
"""Fields that chat templates render into the prompt. Its bound counts them."""

FIELDS_AT_DEVELOPERS = CONSTRAINT_FIELDS | {"tools"}
"""Fields that a template may write again at each developer message."""
