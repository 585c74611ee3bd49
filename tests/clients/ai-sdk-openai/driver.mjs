// The AI SDK with OpenAI's provider, which speaks the Responses API unless `.chat` is named.

import { createOpenAI } from "@ai-sdk/openai";
import { responsesOf, scenariosOf } from "./ai_sdk.mjs";
import { serve } from "./serve.mjs";

const providerOf = ({ base_url, key, headers }) => createOpenAI({ baseURL: base_url, apiKey: key, headers });

await serve("@ai-sdk/openai", {
  ...scenariosOf(
    (ask) => providerOf(ask).chat(ask.model),
    (ask) => providerOf(ask).embedding(ask.embedding_model),
  ),
  ...responsesOf((ask) => providerOf(ask)(ask.model)),
});
