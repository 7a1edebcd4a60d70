// What a peer's script has from the bench: an open loop's clock, as src/pace.rs, and how figures are said.

import { readFileSync } from "node:fs";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

/** Milliseconds on the clock that all threads share. */
export const now = () => Number(process.hrtime.bigint()) / 1e6;

/**
 * Calls `work(due)` `count` times, `rate` times a second, and returns when it has been called for the last time. From a
 * thread of its own, because Node's timers count whole milliseconds.
 */
export function pace(rate, count, work) {
  return new Promise((resolve, reject) => {
    const clock = new Worker(new URL(import.meta.url), { workerData: { rate, count } });
    clock.on("message", work);
    clock.on("error", reject);
    clock.on("exit", resolve);
  });
}

/** One line for the bench. */
export const say = (line) => console.log(JSON.stringify(line));

/** Says what is measured. */
export function sayVersions(peer) {
  const { version } = JSON.parse(readFileSync(`node_modules/${peer}/package.json`, "utf8"));
  say({ versions: `${peer} ${version}, Node ${process.version}` });
}

/** Waits until this holds. */
export async function until(holds) {
  while (!holds()) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

if (!isMainThread && workerData?.rate) {
  const nobody = new Int32Array(new SharedArrayBuffer(4));
  const began = now() + 10;
  for (let index = 0; index < workerData.count; index += 1) {
    const due = began + (index * 1_000) / workerData.rate;
    Atomics.wait(nobody, 0, 0, Math.max(0, due - now()));
    parentPort.postMessage(due);
  }
}
