// The scenarios of the AI SDK: its calls run the tools themselves and send their results back.

import { embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const found = z.object({ call: z.int(), text: z.string() });

function toolsOf(calls) {
  const named = (name) =>
    tool({
      description: name,
      inputSchema: found,
      execute: async (input) => {
        calls.push([name, input]);
        return "done";
      },
    });
  return { look: named("look"), search: named("search") };
}

const optionsOf = (model, ask) => ({ model: model(ask), prompt: ask.prompt, maxRetries: ask.retries ?? undefined });

// A failure of a stream is no rejected promise: it is given to onError.
function streamed(options) {
  let failure;
  const result = streamText({ ...options, onError: ({ error }) => (failure = error) });
  return {
    async pieces() {
      const pieces = [];
      for await (const piece of result.textStream) pieces.push(piece);
      if (failure) throw failure;
      return pieces;
    },
  };
}

async function withTools(model, ask) {
  const calls = [];
  const options = { ...optionsOf(model, ask), tools: toolsOf(calls), stopWhen: stepCountIs(3) };
  return { text: (await generateText(options)).text, calls };
}

export const scenariosOf = (model, embeddingModel) => ({
  async chat(ask) {
    return { text: (await generateText(optionsOf(model, ask))).text };
  },

  async stream(ask) {
    return { pieces: await streamed(optionsOf(model, ask)).pieces() };
  },

  async usage(ask) {
    const whole = await generateText(optionsOf(model, ask));
    const streamed = streamText(optionsOf(model, ask));
    await streamed.consumeStream();
    const counts = [whole.usage, await streamed.usage];
    return { usage: counts.map(({ inputTokens, outputTokens }) => [inputTokens, outputTokens]) };
  },

  tools: (ask) => withTools(model, ask),

  async parallel_tools(ask) {
    const calls = [];
    const options = { ...optionsOf(model, ask), tools: toolsOf(calls), stopWhen: stepCountIs(3) };
    return { text: (await streamed(options).pieces()).join(""), calls };
  },

  async structured(ask) {
    const answer = await generateText({ ...optionsOf(model, ask), output: Output.object({ schema: found }) });
    return { value: answer.output };
  },

  async echo(ask) {
    const first = await generateText(optionsOf(model, ask));
    const turn = [{ role: "user", content: ask.prompt }, ...first.response.messages];
    const messages = [...turn, { role: "user", content: "go on" }];
    return { text: (await generateText({ model: model(ask), messages })).text };
  },

  async embeddings(ask) {
    const answer = await embedMany({ model: embeddingModel(ask), values: ["one", "two"] });
    return { sizes: answer.embeddings.map((each) => each.length) };
  },

  async cancel(ask) {
    const control = new AbortController();
    const result = streamText({ ...optionsOf(model, ask), abortSignal: control.signal, onError: () => {} });
    for await (const piece of result.textStream) {
      if (piece) control.abort();
    }
    return {};
  },
});

export const responsesOf = (model) => ({
  responses: (ask) => withTools(model, ask),

  async responses_stream(ask) {
    return { pieces: await streamed(optionsOf(model, ask)).pieces() };
  },
});
