// OpenAI's SDK for JavaScript.

import OpenAI from "openai";
import { serve } from "./serve.mjs";

const parameters = {
  type: "object",
  properties: { call: { type: "integer" }, text: { type: "string" } },
  required: ["call", "text"],
  additionalProperties: false,
};
const tools = ["look", "search"].map((name) => ({ type: "function", function: { name, parameters } }));
const functions = ["look", "search"].map((name) => ({ type: "function", name, parameters, strict: false }));

const clientOf = ({ base_url, key, headers, retries }) =>
  new OpenAI({ baseURL: base_url, apiKey: key, defaultHeaders: headers, maxRetries: retries ?? undefined });
const user = (content) => ({ role: "user", content });

// Sends the client's own message object back, with a result for each of its calls.
async function withResults(ask, message) {
  const calls = message.tool_calls ?? [];
  const results = calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: "done" }));
  const messages = [user(ask.prompt), message, ...results];
  const answer = await clientOf(ask).chat.completions.create({ model: ask.model, messages, tools });
  const called = calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]);
  return { calls: called, text: answer.choices[0].message.content };
}

await serve("openai", {
  async chat(ask) {
    const body = { model: ask.model, messages: [user(ask.prompt)] };
    const answer = await clientOf(ask).chat.completions.create(body);
    return { text: answer.choices[0].message.content };
  },

  async stream(ask) {
    const body = { model: ask.model, messages: [user(ask.prompt)], stream: true };
    const pieces = [];
    for await (const chunk of await clientOf(ask).chat.completions.create(body)) {
      pieces.push(chunk.choices[0].delta.content ?? "");
    }
    return { pieces };
  },

  async usage(ask) {
    const completions = clientOf(ask).chat.completions;
    const body = { model: ask.model, messages: [user(ask.prompt)] };
    const counts = [(await completions.create(body)).usage];
    const streamed = { ...body, stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await completions.create(streamed)) {
      if (chunk.usage) counts.push(chunk.usage);
    }
    return { usage: counts.map((count) => [count.prompt_tokens, count.completion_tokens]) };
  },

  async tools(ask) {
    const body = { model: ask.model, messages: [user(ask.prompt)], tools };
    const first = await clientOf(ask).chat.completions.create(body);
    return withResults(ask, first.choices[0].message);
  },

  async parallel_tools(ask) {
    const body = { model: ask.model, messages: [user(ask.prompt)], tools, parallel_tool_calls: true };
    return withResults(ask, await clientOf(ask).chat.completions.stream(body).finalMessage());
  },

  async structured(ask) {
    const schema = { name: "found", schema: parameters, strict: true };
    const body = {
      model: ask.model,
      messages: [user(ask.prompt)],
      response_format: { type: "json_schema", json_schema: schema },
    };
    const answer = await clientOf(ask).chat.completions.parse(body);
    return { value: answer.choices[0].message.parsed };
  },

  // Sends back a message of parse() and one of stream(): each has fields of its own.
  async echo(ask) {
    const completions = clientOf(ask).chat.completions;
    const messages = [user(ask.prompt)];
    const first = await completions.parse({ model: ask.model, messages });
    messages.push(first.choices[0].message, user("go on"));
    messages.push(await completions.stream({ model: ask.model, messages }).finalMessage(), user("go on"));
    const third = await completions.create({ model: ask.model, messages });
    return { text: third.choices[0].message.content };
  },

  async embeddings(ask) {
    const body = { model: ask.embedding_model, input: ["one", "two"] };
    const answer = await clientOf(ask).embeddings.create(body);
    return { sizes: answer.data.map((each) => each.embedding.length) };
  },

  async cancel(ask) {
    const body = { model: ask.model, messages: [user(ask.prompt)], stream: true };
    for await (const chunk of await clientOf(ask).chat.completions.create(body)) {
      if (chunk) break; // leaving the loop ends the request
    }
    return {};
  },

  // Two turns with tools: the items of the first are sent back, because nothing is stored.
  async responses(ask) {
    const { model, prompt: input } = ask;
    const first = await clientOf(ask).responses.create({ model, input, tools: functions, store: false });
    const calls = first.output.filter((item) => item.type === "function_call");
    const results = calls.map(({ call_id }) => ({
      type: "function_call_output",
      call_id,
      output: "done",
    }));
    const turn = [user(input), ...first.output, ...results];
    const second = await clientOf(ask).responses.create({ model, input: turn, tools: functions, store: false });
    return { calls: calls.map((call) => [call.name, JSON.parse(call.arguments)]), text: second.output_text };
  },

  async responses_stream(ask) {
    const pieces = [];
    const events = clientOf(ask).responses.stream({ model: ask.model, input: ask.prompt });
    for await (const event of events) {
      if (event.type === "response.output_text.delta") pieces.push(event.delta);
    }
    await events.finalResponse();
    return { pieces };
  },
});
