// @azure/service-bus with a TokenCredential: tokens of an identity provider, as python/identity.py shows them.

import { ServiceBusAdministrationClient, ServiceBusClient } from "@azure/service-bus";

import { expect, sleep } from "./harness.mjs";
import { receive, withId } from "./servicebus_client.mjs";

const role = (name) => `Azure Service Bus Data ${name}`;
// The client renews two minutes before the end: such a token at once, and again and again.
const SHORT_S = 6;
const LONG_MS = 14_000;

class Credential {
  calls = 0;

  constructor(asked) {
    this.asked = asked;
  }

  async getToken() {
    this.calls += 1;
    const answer = await fetch(`${process.env.INTEROP_ISSUER}/token?${new URLSearchParams(this.asked)}`);
    const { access_token: token, expires_on: expiresOn } = await answer.json();
    return { token, expiresOnTimestamp: expiresOn * 1000 };
  }
}

async function connected(broker, credential, body) {
  const options = { retryOptions: { maxRetries: 0 } };
  const client = new ServiceBusClient(`${broker.host}:${broker.port}`, credential, options);
  try {
    return await body(client);
  } finally {
    await client.close();
  }
}

const send = (broker, queue, asked, ...bodies) =>
  connected(broker, new Credential(asked), async (client) => {
    const sender = client.createSender(queue);
    for (const body of bodies) await sender.sendMessages(withId(body));
  });

const take = (broker, queue, asked, count) =>
  connected(broker, new Credential(asked), async (client) => {
    const receiver = client.createReceiver(queue);
    const messages = await receive(receiver, count);
    for (const message of messages) await receiver.completeMessage(message);
    return messages.map((message) => message.body);
  });

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    expect(error.code, "UnauthorizedAccess", `code of ${error.message}`);
    return;
  }
  throw new Error("it was not refused");
}

export const identity = {
  identity: async (broker) => {
    const queue = broker.queue("identity");
    await send(broker, queue, { role: role("Sender"), alg: "RS256" }, "one");
    await send(broker, queue, { role: role("Owner"), alg: "ES256" }, "two");
    expect(await take(broker, queue, { role: role("Receiver"), alg: "ES256" }, 2), ["one", "two"]);
    for (const asked of [
      { role: role("Receiver") },
      { role: "Reader" },
      { role: role("Owner"), audience: "https://storage.azure.com" },
      { role: role("Owner"), forged: 1 },
      { role: role("Owner"), seconds: -5 },
    ]) {
      await refused(send(broker, queue, asked, "never"));
    }
    await refused(take(broker, queue, { role: role("Sender") }, 1));
  },

  "identity-renewal": (broker) => {
    const credential = new Credential({ role: role("Owner"), seconds: SHORT_S });
    return connected(broker, credential, async (client) => {
      const queue = broker.queue("identity-renewal");
      const sender = client.createSender(queue);
      const receiver = client.createReceiver(queue);
      const started = Date.now();
      for (let count = 0; Date.now() - started < LONG_MS; count += 1) {
        await sender.sendMessages(withId(`${count}`));
        const [message] = await receive(receiver, 1);
        expect(message.body, `${count}`);
        await receiver.completeMessage(message);
        await sleep(500);
      }
      expect(credential.calls > 2, true, `renewed, with ${credential.calls} tokens`);
    });
  },

  "identity-management": async (broker) => {
    const administration = (asked) =>
      new ServiceBusAdministrationClient(`${broker.host}:${broker.port}`, new Credential(asked), {
        retryOptions: { maxRetries: 0 },
      });
    const owner = administration({ role: role("Owner") });
    const queue = `${broker.queue("identity")}.made`;
    await owner.createQueue(queue, { forwardTo: broker.queue("identity") });
    expect((await owner.getQueue(queue)).name, queue);
    await owner.deleteQueue(queue);
    const sender = administration({ role: role("Sender") });
    let status;
    await sender.getQueue(broker.queue("identity")).catch((error) => (status = error.statusCode));
    expect(status, 401, "status");
  },
};
