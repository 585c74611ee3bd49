// The AI SDK with the provider for servers that speak OpenAI's API.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { scenariosOf } from "./ai_sdk.mjs";
import { serve } from "./serve.mjs";

const providerOf = ({ base_url, key, headers }) =>
  createOpenAICompatible({
    name: "proxy",
    baseURL: base_url,
    apiKey: key,
    headers,
    supportsStructuredOutputs: true,
    includeUsage: true,
  });

await serve(
  "@ai-sdk/openai-compatible",
  scenariosOf(
    (ask) => providerOf(ask)(ask.model),
    (ask) => providerOf(ask).embeddingModel(ask.embedding_model),
  ),
);
