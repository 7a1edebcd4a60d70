// pg-boss with jobs that do nothing. Arguments: the database's URL, jobs a second, paced jobs, jobs to drain.

import { PgBoss } from "pg-boss";
import { now, pace, say, sayVersions, until } from "./bench.mjs";

const [connectionString, rate, paced, drained] = [process.argv[2], ...process.argv.slice(3).map(Number)];

// As many as its pool has connections when nothing is said.
const CONCURRENCY = 10;
const BATCH = 500;

const boss = new PgBoss({ connectionString, max: CONCURRENCY, useListenNotify: true });
boss.on("error", (error) => console.error(error.message));
await boss.start();
sayVersions("pg-boss");
await latency();
await drain("single", CONCURRENCY, 1, `${CONCURRENCY} loops of fetch and complete`);
await drain("batch", CONCURRENCY, BATCH, `${CONCURRENCY} loops of fetch and complete, ${BATCH} a call`);
process.exit(0);

async function latency() {
  const millis = [];
  // LISTEN, for its polling waits half a second at least; and all that wait in one fetch, for one NOTIFY may stand for
  // several jobs.
  await boss.createQueue("start", { notify: true });
  await boss.work("start", { batchSize: BATCH, burstWhenBatchFull: true }, async (jobs) => {
    const at = now();
    jobs.forEach(({ data: { due } }) => millis.push({ due, took: at - due }));
  });
  // The first second is for warming up.
  const count = paced + rate;
  const adding = [];
  await pace(rate, count, (due) => adding.push(boss.send("start", { due })));
  await Promise.all(adding);
  await until(() => millis.length === count);
  await boss.offWork("start");
  millis.sort((one, other) => one.due - other.due);
  say({ rate, how: "LISTEN", millis: millis.slice(rate).map(({ took }) => took) });
}

// Its workers pause for half a second at least between two fetches of one job, so the loop is our own.
async function drain(name, loops, batchSize, how) {
  await boss.createQueue(name);
  for (let added = 0; added < drained; added += 1_000) {
    await boss.insert(name, Array.from({ length: Math.min(1_000, drained - added) }, () => ({ data: {} })));
  }
  await boss.getDb().executeSql("VACUUM ANALYZE");
  let done = 0;
  const began = now();
  const loop = async () => {
    while (done < drained) {
      const jobs = await boss.fetch(name, { batchSize });
      if (jobs.length === 0) {
        return;
      }
      await boss.complete(name, jobs.map(({ id }) => id));
      done += jobs.length;
    }
  };
  await Promise.all(Array.from({ length: loops }, loop));
  if (done !== drained) {
    throw new Error(`${done} of ${drained} were done`);
  }
  say({ how, batched: batchSize > 1, jobs: drained, seconds: (now() - began) / 1e3 });
}
