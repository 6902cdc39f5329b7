// rhea with links as qpid-jms attaches them: subscriptions by name, shared and not, found and deleted.

import rhea from "rhea";

import { expect } from "./harness.mjs";
import { connected, fails, next, openReceiver, openSender, send, sendBodies } from "./rhea_client.mjs";
import { close, refused, sendAll } from "./rhea_features.mjs";

const subscriber = (topic, name, { capabilities = [], durable = 2, filter } = {}) => ({
  name,
  source: {
    address: topic,
    durable,
    expiry_policy: durable ? "never" : "link-detach",
    capabilities: ["topic", ...capabilities],
    filter,
  },
  snd_settle_mode: 0,
  rcv_settle_mode: 0,
});

// As a JMS consumer closes: what it had subscribed to is kept.
async function leave({ link }) {
  link.detach();
  await next(link, "receiver_close");
  link.remove();
}

async function expectTaken(receiver, ...wanted) {
  for (const body of wanted) {
    const { message, delivery } = await receiver.one();
    expect(message.body, body, "body");
    delivery.accept();
  }
}

const as = (name) => ({ container_id: name });

export const subscriptions = {
  // Asks over a queue that is made for the answers, and answers by a link without an address.
  replies: (broker) =>
    connected(broker, (asker) =>
      connected(broker, async (answerer) => {
        const queue = broker.queue("replies");
        const dynamic = { source: { dynamic: true } };
        const answers = await openReceiver(asker, undefined, dynamic);
        const { address } = answers.link.source;
        await sendAll(asker, queue, { body: "question", reply_to: address });
        const requests = await openReceiver(answerer, queue);
        const { message, delivery } = await requests.one();
        delivery.accept();
        await refused("amqp:not-allowed", answerer, { source: message.reply_to });
        const relay = await openSender(answerer, {});
        await send(relay, { to: message.reply_to, body: "answer" });
        relay.close();
        await expectTaken(answers, "answer");
        await close(requests);
        await close(answers);
        await fails("amqp:not-found", openSender(answerer, address));
      }),
    ),
  subscriptions: (broker) =>
    connected(broker, async (publisher) => {
      const topic = broker.queue("subscriptions");
      const red = { filter: rhea.filter.selector("colour = 'red'") };
      await connected(broker, async (mine) => {
        await leave(await openReceiver(mine, topic, subscriber(topic, "own", red)));
      }, as("interop"));
      const messages = ["red", "blue", "red"].map((colour, place) => ({
        body: "abc"[place],
        application_properties: { colour },
      }));
      await sendAll(publisher, topic, ...messages);
      await connected(broker, async (mine) => {
        let receiver = await openReceiver(mine, topic, subscriber(topic, "own", red));
        await expectTaken(receiver, "a");
        await receiver.one();
        // What it had and did not settle is there for the next.
        await leave(receiver);
        receiver = await openReceiver(mine, topic, subscriber(topic, "own", red));
        await expectTaken(receiver, "c");
        await leave(receiver);

        const found = await openReceiver(mine, undefined, { name: "own", source: undefined });
        expect([found.link.source.address, found.link.source.durable], [topic, 2], "found");
        await close(found);
        await refused("amqp:not-found", mine, { name: "own", source: undefined });

        const shared = { capabilities: ["shared", "global"] };
        const first = await openReceiver(mine, topic, subscriber(topic, "all|global", shared));
        await connected(broker, async (other) => {
          const second = await openReceiver(other, topic, subscriber(topic, "all|global2", shared));
          await sendBodies(publisher, topic, "d", "e");
          await expectTaken(first, "d");
          await expectTaken(second, "e");
        }, as("other"));
        await leave(first);

        const passing = { durable: 0 };
        receiver = await openReceiver(mine, topic, subscriber(topic, "consumer", passing));
        await sendBodies(publisher, topic, "f");
        await expectTaken(receiver, "f");
      }, as("interop"));
    }),
};
