// @azure/service-bus over TLS and over a WebSocket: what a program outside of the emulator's mode does.

import { ServiceBusClient } from "@azure/service-bus";
import { WebSocket } from "ws";

import { expect, KEY, LARGE, pattern, RULE } from "./harness.mjs";
import { receive, withId } from "./servicebus_client.mjs";

async function exchange(broker, queue, options) {
  const text =
    `Endpoint=sb://${broker.host}:${broker.port};SharedAccessKeyName=${RULE};SharedAccessKey=${KEY}`;
  const client = new ServiceBusClient(text, { retryOptions: { maxRetries: 0 }, ...options });
  try {
    const bodies = [100, LARGE].map(pattern);
    const sender = client.createSender(queue);
    for (const body of bodies) await sender.sendMessages(withId(body));
    const receiver = client.createReceiver(queue);
    const messages = await receive(receiver, bodies.length);
    for (const [index, message] of messages.entries()) {
      expect(Buffer.compare(message.body, bodies[index]), 0, "difference");
      await receiver.completeMessage(message);
    }
  } finally {
    await client.close();
  }
}

export const doors = {
  tls: (broker) => exchange(broker, broker.queue("tls"), {}),
  websocket: (broker) =>
    exchange(broker, broker.queue("websocket"), { webSocketOptions: { webSocket: WebSocket } }),
};
