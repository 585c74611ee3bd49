"""Instructor: structured answers by OpenAI's SDK for Python."""

from typing import Any

import instructor
import openai
from openai import OpenAI
from pydantic import BaseModel
from serve import Ask, serve


class Found(BaseModel):
    call: int
    text: str


def create(ask: Ask, kind: Any) -> Any:
    retries = openai.DEFAULT_MAX_RETRIES if ask.retries is None else ask.retries
    client = OpenAI(base_url=ask.base_url, api_key=ask.key, default_headers=ask.headers, max_retries=retries)
    patched = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
    messages: Any = [{"role": "user", "content": ask.prompt}]
    return patched.chat.completions.create(model=ask.model, messages=messages, response_model=kind)


def chat(ask: Ask) -> dict[str, Any]:
    return {"text": create(ask, None).choices[0].message.content}


def structured(ask: Ask) -> dict[str, Any]:
    return {"value": create(ask, Found).model_dump()}


serve("instructor", chat=chat, structured=structured)
