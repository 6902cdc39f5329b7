// What the scenarios of rhea share: links whose events can be waited for.

import rhea from "rhea";

import { EMPTY_MS, expect, KEY, RULE, sleep, within } from "./harness.mjs";

const ANSWER_MS = 10_000;

/** The next of these events on this emitter; an `error` name among them rejects. */
export function next(emitter, wanted, refused = []) {
  return within(
    ANSWER_MS,
    new Promise((resolve, reject) => {
      const done = () => {
        emitter.removeListener(wanted, ok);
        for (const name of refused) emitter.removeListener(name, no);
      };
      const ok = (context) => (done(), resolve(context));
      const no = (context) => {
        done();
        const at = context.sender ?? context.receiver ?? context.connection;
        reject(at?.error ?? context.error ?? new Error(`refused: ${wanted}`));
      };
      emitter.on(wanted, ok);
      for (const name of refused) emitter.on(name, no);
    }),
    wanted,
  );
}

export async function connect(broker, options = {}) {
  const { password = KEY, reconnect = false, container_id } = options;
  const { host, port } = broker;
  const container = rhea.create_container();
  // What is refused is seen where it is waited for.
  container.on("error", () => {});
  const named = container_id ? { container_id } : {};
  const connection = container.connect({ host, port, username: RULE, password, reconnect, ...named });
  await next(connection, "connection_open", ["connection_error", "connection_close", "disconnected"]);
  return connection;
}

export async function connected(broker, body, options) {
  const connection = await connect(broker, options);
  try {
    await body(connection);
  } finally {
    connection.close();
  }
}

export async function openSender(connection, queue) {
  const sender = connection.open_sender({ target: queue });
  // A refused link opens first and closes at once; waiting for credit waits for what follows.
  await next(sender, "sendable", ["sender_error", "sender_close"]);
  return sender;
}

/** Resolves when accepted, and rejects with the broker's error when rejected. */
export function send(sender, message, tag, format) {
  const delivery = sender.send(message, tag, format);
  const outcome = new Promise((resolve, reject) => {
    const handlers = {};
    const settle = (act) => (context) => {
      if (context.delivery && context.delivery !== delivery) return;
      for (const [name, handler] of Object.entries(handlers)) sender.removeListener(name, handler);
      act(context);
    };
    const fail = ({ delivery: refused }) =>
      reject(refused?.remote_state?.error ?? sender.error ?? new Error("not accepted"));
    handlers.accepted = settle(resolve);
    for (const name of ["rejected", "released", "modified", "sender_error", "sender_close"]) {
      handlers[name] = settle(fail);
    }
    for (const [name, handler] of Object.entries(handlers)) sender.on(name, handler);
  });
  return within(ANSWER_MS, outcome, "the outcome of a send");
}

/** A receiver whose messages wait in a list. Credit and settlement are up to the scenario. */
export async function openReceiver(connection, queue, options = {}) {
  const { credit = 0, ...rest } = options;
  const receiver = connection.open_receiver({
    source: queue,
    credit_window: 0,
    autoaccept: false,
    ...rest,
  });
  const waiting = [];
  receiver.on("message", ({ message, delivery }) => {
    waiting.push({ message, delivery });
    receiver.emit("taken");
  });
  await next(receiver, "receiver_open", ["receiver_error", "receiver_close"]);
  if (credit) receiver.add_credit(credit);
  return {
    link: receiver,
    waiting,
    async take(ms = ANSWER_MS) {
      const deadline = Date.now() + ms;
      while (waiting.length === 0) {
        const left = deadline - Date.now();
        if (left <= 0) throw new Error("no message");
        await Promise.race([new Promise((r) => receiver.once("taken", r)), sleep(left)]);
      }
      return waiting.shift();
    },
    async one() {
      receiver.add_credit(1);
      return this.take();
    },
    /** Uses up the credit, and waits for the broker to say so. */
    async drain() {
      const drained = next(receiver, "receiver_drained");
      receiver.drain_credit();
      await drained;
      receiver.drain = false;
    },
  };
}

export async function sendBodies(connection, queue, ...bodies) {
  const sender = await openSender(connection, queue);
  for (const body of bodies) await send(sender, { body });
  sender.close();
}

export async function expectEmpty(connection, queue) {
  const receiver = await openReceiver(connection, queue, { credit: 10 });
  await sleep(EMPTY_MS);
  expect(receiver.waiting.map(({ message }) => message.body), [], "messages left");
  receiver.link.close();
  await next(receiver.link, "receiver_close");
}

export const count = (message) => message.delivery_count ?? 0;
export const DEAD = "/$DeadLetterQueue";

export async function fails(condition, promise) {
  try {
    await promise;
  } catch (error) {
    expect(error?.condition, condition, "error condition");
    return error;
  }
  throw new Error(`no ${condition}`);
}
