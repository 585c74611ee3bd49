// OpenAI's Codex, as its command runs: in a temporary repository, with a configuration of its own.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { directive, serve } from "./serve.mjs";

const toml = JSON.stringify; // strings are written alike in both

function configurationOf({ base_url, model, headers, retries }) {
  const pairs = Object.entries(headers).map(([name, value]) => `${toml(name)} = ${toml(value)}`);
  return `
model = ${toml(model)}
model_provider = "proxy"
check_for_update_on_startup = false

[model_providers.proxy]
name = "proxy"
base_url = ${toml(base_url)}
env_key = "PROXY_KEY"
wire_api = "responses"
http_headers = { ${pairs.join(", ")} }
${retries === undefined ? "" : `request_max_retries = ${retries}\nstream_max_retries = ${retries}`}
`;
}

// Runs the command in a new repository with one file. Returns its last message, and the file afterwards.
function run(ask, prompt) {
  const folder = mkdtempSync(join(process.env.TMPDIR, "codex-"));
  const repository = join(folder, "repository");
  mkdirSync(repository);
  writeFileSync(join(repository, "greeting.txt"), "hello\n");
  writeFileSync(join(folder, "config.toml"), configurationOf(ask));
  const last = join(folder, "last-message");
  const options = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"];
  const done = spawnSync("codex", ["exec", ...options, "--output-last-message", last, prompt], {
    cwd: repository,
    env: { ...process.env, CODEX_HOME: folder, PROXY_KEY: ask.key },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
  if (done.status !== 0) throw new Error(done.stderr.slice(-2000));
  return { text: readFileSync(last, "utf8"), file: readFileSync(join(repository, "greeting.txt"), "utf8") };
}

await serve("@openai/codex", {
  chat: async (ask) => run(ask, ask.prompt),

  // The model calls the tool twice in its first answer.
  async edit(ask) {
    const commands = ["sed -i s/hello/goodbye/ greeting.txt", "cat greeting.txt"];
    const tool_calls = commands.map((cmd) => ({ name: "exec_command", arguments: { cmd } }));
    return run(ask, `${ask.prompt} ${directive({ tool_calls, then: {} })}`);
  },
});
