"""What OpenRouter's form has beyond OpenAI's: answers and errors of `/api/v1`. Pure functions.

Its SDK rejects an answer without `system_fingerprint`, and an error whose code is not a number.
"""

from __future__ import annotations

import re
from typing import Any

OPENROUTER_PATH = "/api/v1/"

_KEY = re.compile(rb'"system_fingerprint"[ \t\r\n]*:')


def openrouter_answer(answer: bytes) -> bytes:
    """Return a whole chat completion with the field `system_fingerprint`. Some engines do not send it.

    Inside a string a quote has a backslash, and only a name has a colon behind it. So what is found is
    the field.
    """
    if _KEY.search(answer):
        return answer
    return answer.rstrip()[:-1] + b',"system_fingerprint":null}'


def openrouter_error_body(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """Return an error of OpenAI's form with the status as its code. The proxy's code is in its metadata."""
    error = body["error"]
    return {**body, "error": {**error, "code": int(status), "metadata": {"code": error["code"]}}}
