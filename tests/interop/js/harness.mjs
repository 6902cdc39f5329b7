// Runs the scenarios of one client program and prints a line for each, as python/harness.py does.
//
//   node program.mjs --port 5672                       every scenario but `idle` and `reconnect`
//   node program.mjs --port 5672 --only peek,prefetch  these

import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

export const RULE = "RootManageSharedAccessKey";
export const KEY = "SAS_KEY_VALUE";
export const LARGE = 900 * 1024;
export const OVERSIZE = 1_500_000;
export const EMPTY_MS = 1000;
export const IDLE_MS = 70_000;
const ON_DEMAND = ["idle", "reconnect"];
// Longer than any scenario takes: a client that waits for ever is a failure, not a stop of the tests.
const SCENARIO_MS = 150_000;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Fails unless both have the same JSON. */
export function expect(actual, wanted, what = "value") {
  const [a, w] = [JSON.stringify(actual), JSON.stringify(wanted)];
  if (a !== w) throw new Error(`${what}: ${shorten(a)} instead of ${shorten(w)}`);
}

function shorten(text) {
  return text === undefined || text.length <= 200 ? text : `${text.slice(0, 200)}…`;
}

/** Bytes that show a piece that is missing, doubled or moved. */
export function pattern(size) {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i + 4 <= size; i += 4) bytes.writeUInt32BE(i / 4, i);
  return bytes;
}

export async function within(ms, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Says that the broker may be restarted now, and waits until somebody says that it was. */
export function waitForRestart() {
  console.log("READY: restart the broker, then press Enter");
  const lines = createInterface({ input: process.stdin });
  return new Promise((resolve, reject) => {
    lines.once("line", () => (resolve(), lines.close()));
    lines.once("close", () => reject(new Error("nobody restarted the broker")));
  });
}

export async function run(client, scenarios) {
  const { values } = parseArgs({
    options: {
      host: { type: "string", default: "127.0.0.1" },
      port: { type: "string", default: "5672" },
      only: { type: "string" },
      list: { type: "boolean" },
    },
  });
  if (values.list) {
    console.log(Object.keys(scenarios).join("\n"));
    return;
  }
  const broker = {
    host: values.host,
    port: Number(values.port),
    queue: (scenario) => `${client}.${scenario}`,
  };
  const all = Object.keys(scenarios).filter((name) => !ON_DEMAND.includes(name));
  let failed = 0;
  for (const name of values.only ? values.only.split(",") : all) {
    const started = Date.now();
    try {
      await within(SCENARIO_MS, scenarios[name](broker), name);
      console.log(`PASS ${name} ${((Date.now() - started) / 1000).toFixed(1)}s`);
    } catch (error) {
      failed += 1;
      console.error(error);
      const text = `${error.code ?? error.condition ?? error.name}: ${error.message}`;
      console.log(`FAIL ${name} ${text.replace(/\s+/g, " ").slice(0, 400)}`);
    }
  }
  process.exit(failed ? 1 : 0);
}
