// What the scenarios of @azure/service-bus share.

import { ServiceBusClient } from "@azure/service-bus";

import { EMPTY_MS, expect, KEY, RULE } from "./harness.mjs";

export function connect(broker, { key = KEY, retries, timeout } = {}) {
  const text =
    `Endpoint=sb://${broker.host}:${broker.port};SharedAccessKeyName=${RULE};` +
    `SharedAccessKey=${key};UseDevelopmentEmulator=true;`;
  const retryOptions = {};
  if (retries !== undefined) retryOptions.maxRetries = retries;
  if (timeout !== undefined) retryOptions.timeoutInMs = timeout;
  return new ServiceBusClient(text, { retryOptions });
}

/** Runs the body with a client that is closed afterwards, whatever happens. */
export async function connected(broker, body, options) {
  const client = connect(broker, options);
  try {
    await body(client);
  } finally {
    await client.close();
  }
}

// The client cannot settle a message without an id: its own renewal of locks goes by it.
let ids = 0;
export const withId = (body) => ({ body, messageId: `id ${(ids += 1)}` });

export async function send(client, queue, ...bodies) {
  const sender = client.createSender(queue);
  for (const body of bodies) await sender.sendMessages(withId(body));
  await sender.close();
}

/** Exactly that many messages, over as many calls as it takes. */
export async function receive(receiver, count, waitMs = 10_000) {
  const messages = [];
  const deadline = Date.now() + waitMs;
  while (messages.length < count && Date.now() < deadline) {
    const maxWaitTimeInMs = Math.max(deadline - Date.now(), 100);
    messages.push(...(await receiver.receiveMessages(count - messages.length, { maxWaitTimeInMs })));
  }
  expect(messages.length, count, "messages received");
  return messages;
}

export async function expectEmpty(client, queue, options) {
  const receiver = client.createReceiver(queue, options);
  const rest = await receiver.receiveMessages(10, { maxWaitTimeInMs: EMPTY_MS });
  expect(rest.map((m) => String(m.body)), [], "messages left");
  await receiver.close();
}

export async function fails(code, promise) {
  try {
    await promise;
  } catch (error) {
    expect(error.code, code, "error code");
    return error;
  }
  throw new Error(`no ${code}`);
}
