// Publishes turns to NATS by the wire contract (docs/wire.md): the session token,
// the payload, the message id, the trace, waiting for the acknowledgement, and sending the
// same bytes again, ever later, while there is none.

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { headers } from "@nats-io/transport-node";

const ACK_TIMEOUT = 5_000; // ms
const RETRY_MIN = 100;
const RETRY_MAX = 30_000;
const KEPT = 10_000; // turns that may wait for the stream
const SHOWN = 60_000; // ms after which histories show what is stored
const RESERVE = 16 * 1024; // below the server's max_payload, so that a dead letter fits too

// token is the one encoding of a session id, for subjects.
export function token(session) {
  const raw = Buffer.from(session);
  if (raw.length < 1 || raw.length > 255 || raw.toString() !== session || /\p{Cc}/u.test(session)) {
    throw new RangeError("a session id is 1 to 255 bytes of UTF-8 without control characters");
  }
  let encoded = "";
  for (const byte of raw) {
    const char = String.fromCharCode(byte);
    encoded += /[A-Za-z0-9_-]/.test(char) ? char : "=" + byte.toString(16).toUpperCase().padStart(2, "0");
  }
  return encoded.length <= 160 ? encoded : encoded.slice(0, 64) + "=~" + createHash("sha256").update(raw).digest("hex");
}

// Publisher keeps turns in memory until the stream has them. A reply never waits for it.
export class Publisher {
  #connection;
  #stream;
  #waiting = new Set(); // promises of snapshots on their way
  #last = 0; // the last timestamp that was given, in µs
  #closing = new AbortController();
  #recent = new Map(); // session -> id -> newest snapshot, of what was published here

  constructor(connection, jetstream) {
    this.#connection = connection;
    this.#stream = jetstream;
  }

  // publish takes a snapshot of a turn, and the trace context of its request if there is one,
  // and returns at once. It throws when the turn cannot be taken.
  publish(turn, traceparent) {
    const subject = "afterword.turns." + token(turn.session_id);
    const payload = Buffer.from(JSON.stringify(turn));
    const limit = (this.#connection.info?.max_payload ?? 1 << 20) - RESERVE;
    if (payload.length > limit) throw new RangeError(`the turn is ${payload.length} bytes long; at most ${limit} are allowed`);
    if (this.#waiting.size >= KEPT) throw new Error(`${KEPT} turns are waiting for the stream already`);

    let turns = this.#recent.get(turn.session_id);
    if (!turns) this.#recent.set(turn.session_id, (turns = new Map()));
    turns.set(turn.id, turn);

    const sent = this.#send(subject, payload, traceparent).then(
      () => {
        this.#waiting.delete(sent);
        setTimeout(() => this.#forget(turn), SHOWN).unref();
      },
      () => {}, // closed before it was stored; close counts it
    );
    this.#waiting.add(sent);
  }

  // pending are the turns of a session that were published here and that the histories
  // of others, which list known, perhaps do not show yet.
  pending(session, known) {
    for (const { id, rev } of known) this.#forget({ session_id: session, id, rev });
    return [...(this.#recent.get(session)?.values() ?? [])];
  }

  // stamp is when a turn begins: now, and later than all turns that are known before it.
  // The order of timestamps is the order of the conversation.
  stamp(known) {
    const before = known.map(({ timestamp }) => Date.parse(timestamp.slice(0, 19) + "Z") * 1000 + Number(timestamp.slice(20, 26)));
    const at = Math.max(Date.now() * 1000, this.#last + 1, ...before.map((micros) => micros + 1));
    this.#last = at;
    return new Date(Math.floor(at / 1000)).toISOString().slice(0, -1) + String(at % 1000).padStart(3, "0") + "Z";
  }

  #forget({ session_id, id, rev }) {
    const turns = this.#recent.get(session_id);
    if (turns?.get(id)?.rev <= rev) turns.delete(id);
    if (turns?.size === 0) this.#recent.delete(session_id);
  }

  async #send(subject, payload, traceparent) {
    const msgID = createHash("sha256").update(payload).digest("hex").slice(0, 32);
    const traced = headers();
    if (traceparent) traced.set("traceparent", traceparent);
    for (let delay = RETRY_MIN; ; delay = Math.min(2 * delay, RETRY_MAX)) {
      try {
        return await this.#stream.publish(subject, payload, { msgID, headers: traced, timeout: ACK_TIMEOUT, retries: 0 });
      } catch (err) {
        console.error(`a turn is not stored yet: ${err.message}`);
      }
      await sleep(delay, undefined, { signal: this.#closing.signal });
    }
  }

  // close waits until all is stored, for so many ms, and returns how many snapshots are not.
  async close(bound) {
    const all = Promise.allSettled(this.#waiting);
    await Promise.race([all, sleep(bound, undefined, { ref: false })]);
    const left = this.#waiting.size;
    this.#closing.abort();
    return left;
  }
}
