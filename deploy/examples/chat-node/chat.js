// A chat API whose replies wait for no disk and no server.
//
//   npm ci && npm start -- --listen 127.0.0.1:9003
//   curl -N --data 'Hello there' http://127.0.0.1:9003/chat/abc
//
// It answers POST /chat/{session} with the words of a model as they come, as plain
// text. What the user said is published before the model is called (rev 1, pending),
// the answer after its last word has gone out (rev 2). Histories come from
// `afterword gateway` (or `serve`) over HTTP. The traceparent of a request goes along,
// so that its turns are in its trace. It answers pages of its own host alone: localhost, an
// address, or the name that --host gives. Without --nats-url it publishes to the embedded server of
// `afterword serve`, with the credentials in its data folder.

import { randomUUID } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { isIP } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";
import { Publisher, token } from "./turns.js";

const HISTORY_TIMEOUT = 2_000; // ms
const DRAIN = 20_000;
const MAX_MESSAGE = 64 << 10; // bytes that a user may say at once
const RECENT = 10;

const { values: args } = parseArgs({
  options: {
    listen: { type: "string", default: "127.0.0.1:9003" },
    host: { type: "string" }, // a name of this server
    "nats-url": { type: "string" },
    "data-dir": { type: "string", default: fileURLToPath(new URL("../../../data", import.meta.url)) },
    gateway: { type: "string", default: "http://127.0.0.1:8080" },
  },
});

const connection = await connect({ ...target(), waitOnFirstConnect: true, maxReconnectAttempts: -1 });
connection.closed().then((err) => { // not when this process closes it
  if (!err) return;
  console.error(err.message);
  process.exit(1);
});
const publisher = new Publisher(connection, jetstream(connection));

// target is where to connect to, and as whom.
function target() {
  if (args["nats-url"]) return { servers: args["nats-url"].split(",") };
  const file = `${args["data-dir"]}/credentials`;
  let url;
  try {
    url = embedded(file);
  } catch (err) {
    if (err.code === "ENOENT") return { servers: "127.0.0.1:4222" };
    throw err;
  }
  return { servers: url.host, authenticator: () => credentials(file, url.host) };
}

function embedded(file) {
  return new URL(readFileSync(file, "utf8").match(/^NATS_URL=(.+)$/m)[1]);
}

// credentials are read for every connection. Another user may have taken the port while the server was
// down: who listens there, says Linux. That ends the connection, and nothing is sent.
function credentials(file, host) {
  const { username: user, password: pass, port } = embedded(file);
  const end = `:${Number(port).toString(16).toUpperCase().padStart(4, "0")}`;
  const sockets = readFileSync("/proc/net/tcp", "utf8").split("\n").map((line) => line.trim().split(/\s+/));
  const others = sockets.filter((fields) => fields[1]?.endsWith(end) && fields[3] === "0A" && ![0, statSync(file).uid].includes(Number(fields[7])));
  if (others.length > 0) throw new Error(`another user listens at ${host}: the credentials in ${file} were not sent`);
  return { user, pass };
}

// answered turns are those that a history lists: with an answer, or with tool calls alone.
function answered(turn) {
  return ["complete", "partial", "cancelled"].includes(turn.status ?? "complete") && Boolean(turn.assistant || turn.tool_calls?.length);
}

// history is what was said last in a session, with what this process published a
// moment ago.
async function history(session, traceparent) {
  let turns = [];
  try {
    const answer = await fetch(`${args.gateway}/v1/sessions/${encodeURIComponent(session)}/history`, {
      headers: traceparent ? { traceparent } : {},
      signal: AbortSignal.timeout(HISTORY_TIMEOUT),
    });
    if (answer.ok) turns = (await answer.json()).turns;
  } catch (err) {
    console.error(`no history: ${err.message}`); // the model knows less, the user still gets an answer
  }
  const pending = publisher.pending(session, turns);
  const ids = new Set(pending.map((turn) => turn.id));
  return [...turns.filter((turn) => !ids.has(turn.id)), ...pending.filter(answered)].slice(-RECENT);
}

// model stands for a language model.
async function* model(before, said, signal) {
  let text = `Turn ${before.length + 1}.`;
  if (before.length > 0) text += ` Before, you said "${before.at(-1).user}".`;
  for (const word of `${text} Now you say: ${said}`.split(/\s+/)) {
    await sleep(20, undefined, { signal });
    yield word + " ";
  }
}

async function read(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    if ((size += part.length) > MAX_MESSAGE) throw new RangeError("the message is longer than 64 KiB");
    parts.push(part);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts));
}

// isOurs tells whether no page of another site sent a request: a browser sends text for any page,
// without asking first. A page whose name was pointed at this address (DNS rebinding) counts as
// our own, so the host is checked too.
function isOurs({ headers: { host, origin, "sec-fetch-site": site } }) {
  let name;
  try {
    name = new URL(`http://${host}`).hostname;
  } catch {
    return false;
  }
  if (name !== "localhost" && name !== args.host && !isIP(name.replace(/^\[|\]$/g, ""))) return false;
  return ["same-origin", "none", undefined].includes(site) && [`http://${host}`, `https://${host}`, undefined].includes(origin);
}

async function answer(request, response) {
  if (!isOurs(request)) {
    response.writeHead(403, { "Content-Type": "text/plain", Connection: "close" }).end("this is for pages of this host; see --host\n");
    return;
  }
  let session, said;
  try {
    const [, where, id, ...more] = request.url.split("/");
    session = decodeURIComponent(id);
    if (request.method !== "POST" || where !== "chat" || more.length > 0) throw new RangeError("POST to /chat/SESSION");
    token(session); // refuses what is no session id
    said = await read(request);
  } catch (err) {
    response.writeHead(400, { "Content-Type": "text/plain" }).end(`${err.message}\n`);
    return;
  }
  const gone = new AbortController();
  response.on("close", () => gone.abort());

  const { traceparent } = request.headers;
  const before = await history(session, traceparent);
  const turn = {
    session_id: session, id: randomUUID(), timestamp: publisher.stamp(before),
    user: said, status: "pending", rev: 1, model: "fake",
  };
  publisher.publish(turn, traceparent);

  const end = { assistant: "", status: "complete" };
  try {
    response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" });
    for await (const word of model(before, said, gone.signal)) {
      response.write(word);
      end.assistant += word;
    }
    response.end();
  } catch (err) {
    if (gone.signal.aborted) {
      end.status = "cancelled"; // the user has gone; what was said so far stays
    } else {
      Object.assign(end, { status: "failed", error: err.message });
      response.destroy();
    }
  }
  publisher.publish({ ...turn, ...end, rev: 2, completed_at: new Date().toISOString() }, traceparent);
}

const api = createServer((request, response) => {
  answer(request, response).catch((err) => {
    console.error(err.message);
    response.destroy();
  });
});
const [, host, port] = args.listen.match(/^(.*):(\d+)$/);
api.listen(Number(port), host, () => console.error(`chat answers on http://${args.listen}/chat/{session}`));

async function stop() {
  await new Promise((done) => api.close(done)); // answers that are under way are finished
  const left = await publisher.close(DRAIN);
  await connection.close();
  if (left > 0) console.error(`${left} snapshots of turns are not stored`);
  process.exit(left > 0 ? 1 : 0);
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, stop);
