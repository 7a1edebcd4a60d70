// graphile-worker with jobs that do nothing. Arguments: the database's URL, jobs a second, paced jobs, jobs to drain.

import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { now, pace, say, sayVersions, until } from "./bench.mjs";

const [connectionString, rate, paced, drained] = [process.argv[2], ...process.argv.slice(3).map(Number)];

// Concurrency, pool and batching as its own page on performance has them.
const CONCURRENCY = 24;
const worker = {
  connectionString,
  concurrentJobs: CONCURRENCY,
  maxPoolSize: CONCURRENCY + 1,
  // A log line for each job would be measured too.
  logger: new Logger(() => (level, message) => level === "error" && console.error(message)),
};
const batches = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };

const utils = await makeWorkerUtils({ preset: { worker } });
await utils.migrate();
sayVersions("graphile-worker");
await latency();
await drain({}, `${CONCURRENCY} at once, each by itself`, false);
await drain(batches, `${CONCURRENCY} at once, local queue of ${batches.localQueue.size}`, true);
await utils.release();
process.exit(0);

async function latency() {
  const millis = [];
  const start = ({ due }) => void millis.push({ due, took: now() - due });
  const runner = await run({ preset: { worker }, taskList: { start } });
  // The first second is for warming up.
  const count = paced + rate;
  const adding = [];
  await pace(rate, count, (due) => adding.push(utils.addJob("start", { due })));
  await Promise.all(adding);
  await until(() => millis.length === count);
  await runner.stop();
  millis.sort((one, other) => one.due - other.due);
  say({ rate, how: "LISTEN", millis: millis.slice(rate).map(({ took }) => took) });
}

async function drain(options, how, batched) {
  for (let added = 0; added < drained; added += 1_000) {
    const some = Math.min(1_000, drained - added);
    await utils.addJobs(Array.from({ length: some }, () => ({ identifier: "drain", payload: {} })));
  }
  await utils.withPgClient((client) => client.query("VACUUM ANALYZE"));
  let done = 0;
  const began = now();
  const runner = await run({ preset: { worker: { ...worker, ...options } }, taskList: { drain: () => void (done += 1) } });
  await until(() => done === drained);
  // Stopped is when the last completion is in the database.
  await runner.stop();
  say({ how, batched, jobs: drained, seconds: (now() - began) / 1e3 });
}
