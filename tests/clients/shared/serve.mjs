// Serves scenarios of a client, as serve.py does: one JSON object a line from standard input, one answer a line.

import { readFileSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";

const STDOUT = 1;

export async function serve(name, scenarios) {
  console.log = console.error; // what a library prints does not get between the answers
  answer({ version: versionOf(name), scenarios: Object.keys(scenarios) });
  for await (const line of createInterface({ input: process.stdin })) {
    const { scenario, ...ask } = JSON.parse(line);
    try {
      answer(await scenarios[scenario]({ headers: {}, ...ask }));
    } catch (error) {
      answer({ error: described(error) });
    }
  }
}

// An instruction for the fake Chutes, which is part of a prompt.
export const directive = (asked) => `[[fake-chutes ${JSON.stringify(asked)}]]`;

function answer(value) {
  writeSync(STDOUT, JSON.stringify(value) + "\n");
}

function versionOf(name) {
  return JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), "utf8")).version;
}

// The HTTP status may be that of an error below the one that was raised.
function described(error) {
  let status = null;
  for (let below = error; below && status === null; below = below.cause ?? below.lastError) {
    status = below.status ?? below.statusCode ?? null;
  }
  return { type: error.name, status, text: String(error.message).slice(0, 2000) };
}
