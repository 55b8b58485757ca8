// Delayed jobs of BullMQ in place of keys: bullmq.js URL PORT..
// Prints READY, reads `key deadline` (milliseconds) from its input, and POSTs to URL when a job is due.

const { createInterface } = require("node:readline");
const { Queue, Worker } = require("bullmq");
const { Cluster } = require("ioredis");

const [url, ...ports] = process.argv.slice(2);
const nodes = ports.map((port) => ({ host: "127.0.0.1", port: Number(port) }));
// A worker waits on its connection.
const connection = () => new Cluster(nodes, { redisOptions: { maxRetriesPerRequest: null } });
const prefix = "{bull}";

const queue = new Queue("orders", { connection: connection(), prefix });
const worker = new Worker(
  "orders",
  async ({ data: { key, deadline } }) => {
    const body = { type: "order.timeout.expired", timestamp: new Date().toISOString(), data: { key, deadline: new Date(deadline).toISOString() } };
    const answer = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    await answer.arrayBuffer();
  },
  { connection: connection(), prefix, concurrency: 64 },
);
worker.on("error", (error) => console.error(error));

worker.waitUntilReady().then(() => queue.waitUntilReady()).then(() => console.log("READY"));
createInterface({ input: process.stdin }).on("line", (line) => {
  const [key, deadline] = line.split(" ");
  const delay = Math.max(0, Number(deadline) - Date.now());
  queue.add("order", { key, deadline: Number(deadline) }, { delay, removeOnComplete: true }).catch((error) => console.error(error));
});
