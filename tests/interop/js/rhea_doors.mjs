// rhea over TLS, with a password and with a certificate, and over a WebSocket.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import rhea from "rhea";
import { WebSocket } from "ws";

import { expect, KEY, RULE } from "./harness.mjs";
import { next, openReceiver, openSender, send } from "./rhea_client.mjs";

const PASSWORD = { username: RULE, password: KEY };

const file = (name) => readFileSync(join(process.env.INTEROP_CERTIFICATES, name));

async function exchange(queue, options) {
  const container = rhea.create_container();
  container.on("error", () => {});
  const connection = container.connect({ reconnect: false, ...options(container) });
  await next(connection, "connection_open", ["connection_error", "connection_close", "disconnected"]);
  try {
    const sender = await openSender(connection, queue);
    await send(sender, { body: "by another door" });
    const receiver = await openReceiver(connection, queue);
    const { message, delivery } = await receiver.one();
    expect(message.body, "by another door");
    delivery.accept();
  } finally {
    connection.close();
  }
}

export const doors = {
  tls: async (broker) => {
    const secure = { host: broker.host, port: broker.port, transport: "tls", ca: file("ca.pem") };
    await exchange(broker.queue("tls"), () => ({ ...secure, ...PASSWORD }));
    // Without being told so the client says ANONYMOUS, certificate or not.
    const own = { cert: file("interop.pem"), key: file("interop.key"), enable_sasl_external: true };
    await exchange(broker.queue("tls"), () => ({ ...secure, ...own }));
  },
  websocket: async (broker) => {
    for (const protocol of ["AMQPWSB10", "amqp"]) {
      for (const scheme of ["ws", "wss"]) {
        const url = `${scheme}://${broker.host}:${broker.port}/$servicebus/websocket`;
        await exchange(broker.queue("websocket"), (container) => ({
          connection_details: container.websocket_connect(WebSocket)(url, [protocol], {}),
          ...PASSWORD,
        }));
      }
    }
  },
};
