"""The names of the faults, and the bodies that Chutes sends for early failures."""

from __future__ import annotations

EXHAUSTED = "exhausted all available targets to no avail"
QUOTA = "Quota exceeded and account balance is $0.0, please pay with fiat or send tao"
CHUTE_ID = "51a4284a-a5a0-5e44-a9cc-6af5a2abfbcf"
QUOTA_RESET_TIMESTAMP = "2030-01-01T00:00:00"


def early_statuses(model: str) -> dict[str, tuple[int, object]]:
    """Return status and detail of each failure before the first chunk."""
    return {
        "auth_required": (401, "Authentication required."),
        "auth_invalid": (401, "Invalid token or user not found"),
        "quota": (402, {"message": QUOTA, "quota_reset_timestamp": QUOTA_RESET_TIMESTAMP}),
        "quota_plain": (402, QUOTA),
        "model_not_found": (404, f"model not found: {model}"),
        "no_cord": (404, "No matching cord found!"),
        "invalid_request": (400, "Invalid request: max_tokens is too large"),
        "invalid_request_dict": (400, {"message": "Invalid request: max_tokens is too large", "code": 400}),
        "at_capacity": (429, "Infrastructure is at maximum capacity, try again later"),
        "maintenance": (429, "model is under maintenance"),
        "spam": (429, "Stop spamming this prompt, please..."),
        "no_instances": (503, f"No instances available (yet) for chute_id='{CHUTE_ID}'"),
        "exhausted": (500, EXHAUSTED),
        "no_result": (500, "No result returned from upstream"),
        "gateway_timeout": (504, "The upstream did not answer in time"),
    }


TOO_LONG = {"message": "This model's maximum context length is exceeded", "code": 400}


EARLY_STATUSES = frozenset(early_statuses(""))
NO_ANSWER = frozenset({"close", "reset", "hang"})
INSTEAD = frozenset({"html", "redirect"})
IN_ANY_BODY = frozenset({"cut", "reset_mid", "stall", "malformed", "cookie", "gzip", "wrong_length"})
ANYWHERE = EARLY_STATUSES | NO_ANSWER | INSTEAD | IN_ANY_BODY

CHAT = ANYWHERE | {
    "error_first",
    "error_event",
    "status_body",
    "no_finish",
    "empty",
    "null_content",
    "reasoning_only",
    "other_model",
    "error_text",
    "json_whole",
}
STREAM = CHAT | {
    "error_line",
    "no_done_no_finish",
    "no_done",
    "cut_after_finish",
    "cut_after_usage",
    "restart",
    "endless",
    "split",
    "trickle",
    "crlf",
    "comments",
}
EMBED = ANYWHERE | {"too_long"}
ALL = STREAM | EMBED
