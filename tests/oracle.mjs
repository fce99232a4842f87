// What do GitHub's own methods make of these deliveries?  One JSON object a line, in and out, for all of them.
//
// In:  {"secret": "…", "body": "…", "shown": "sha256=…"}
// Out: {"signed": "sha256=…", "right": true}, or with "right" the name of the error that was thrown.

import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const place = join(process.env.RELAY_TEST_NODE, "node_modules/@octokit/webhooks-methods/dist-node/index.js");
const { sign, verify } = await import(pathToFileURL(place).href);

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, body, shown } = JSON.parse(line);
  let right;
  try {
    right = await verify(secret, body, shown);
  } catch (error) {
    right = error.name;
  }
  process.stdout.write(JSON.stringify({ signed: await sign(secret, body), right }) + "\n");
}
