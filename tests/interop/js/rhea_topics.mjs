// rhea with topics: to publish and to receive takes no more than plain AMQP.

import rhea from "rhea";

import { expect } from "./harness.mjs";
import { connected, count, DEAD, expectEmpty, openReceiver, sendBodies } from "./rhea_client.mjs";
import { close, openSession, refused, sendAll, SESSION } from "./rhea_features.mjs";

const of = (topic, subscription) => `${topic}/Subscriptions/${subscription}`;

/** What is there, which has to be that many messages and no more. */
async function taken(connection, address, number) {
  const receiver = await openReceiver(connection, address);
  const messages = [];
  for (let i = 0; i < number; i += 1) {
    const { message, delivery } = await receiver.one();
    delivery.accept();
    messages.push(message);
  }
  await close(receiver);
  await expectEmpty(connection, address);
  return messages;
}

async function expectBodies(connection, address, ...wanted) {
  const messages = await taken(connection, address, wanted.length);
  expect(messages.map((message) => message.body), wanted, `bodies of ${address}`);
}

const sized = (body, size, subject) => ({ body, subject, application_properties: { size } });

const scenarios = {
  publish: async (connection, topic) => {
    await sendBodies(connection, topic, "1", "2");
    for (const address of [of(topic, "a"), `${topic}/subscriptions/B`]) {
      await expectBodies(connection, address, "1", "2");
    }
    for (const source of [topic, of(topic, "none")]) {
      await refused("amqp:not-found", connection, { source });
    }
  },

  "publish-scheduled": async (connection, topic) => {
    const due = Date.now() + 3000;
    const message_annotations = { "x-opt-scheduled-enqueue-time": rhea.types.wrap_timestamp(due) };
    await sendAll(connection, topic, { body: "later", message_annotations }, { body: "at once" });
    const [now, then] = await taken(connection, of(topic, "a"), 2);
    expect([now.body, then.body], ["at once", "later"], "bodies");
    const enqueued = then.message_annotations["x-opt-enqueued-time"];
    expect(enqueued >= due, true, "enqueued when it was due");
  },

  filters: async (connection, topic) => {
    const messages = [sized("one", 1, "red"), sized("seven", 7, "blue"), sized("eight", 8, "red")];
    await sendAll(connection, topic, ...messages, { body: "none" });
    for (const [name, wanted] of [
      ["everything", ["one", "seven", "eight", "none"]],
      ["nothing", []],
      ["sql", ["seven"]],
      ["missing", ["none"]],
      ["correlation", ["one", "eight"]],
      ["typed", ["seven"]],
    ]) {
      await expectBodies(connection, of(topic, name), ...wanted);
    }
  },

  actions: async (connection, topic) => {
    await sendAll(connection, topic, sized("small", 1, "red"), sized("big", 7, "blue"));
    const copies = await taken(connection, of(topic, "a"), 2);
    const seen = copies.map((copy) => [copy.body, copy.subject, copy.application_properties]);
    seen.sort((one, other) => (one[1] < other[1] ? -1 : 1));
    const doubled = { size: 14, RuleName: "double" };
    expect(seen, [["big", "blue", { size: 7 }], ["big", "doubled", doubled]], "copies");
  },

  "subscription-delete": async (connection, topic) => {
    await sendBodies(connection, topic, "1", "2");
    const receiver = await openReceiver(connection, of(topic, "a"), { snd_settle_mode: 1 });
    for (const body of ["1", "2"]) {
      const { message, delivery } = await receiver.one();
      expect([message.body, delivery.remote_settled], [body, true], "body, settled");
    }
    await close(receiver);
    await expectEmpty(connection, of(topic, "a"));
  },

  // The subscription allows two deliveries.
  "subscription-dead-letter": async (connection, topic) => {
    await sendBodies(connection, topic, "poison", "good");
    const receiver = await openReceiver(connection, of(topic, "a"));
    for (const failed of [0, 1]) {
      const { message, delivery } = await receiver.one();
      expect([message.body, count(message)], ["poison", failed], "body, count");
      delivery.modified({ delivery_failed: true });
    }
    await close(receiver);
    await expectBodies(connection, of(topic, "a"), "good");
    const [dead] = await taken(connection, of(topic, "a") + DEAD, 1);
    const reason = dead.application_properties.DeadLetterReason;
    expect([dead.body, reason], ["poison", "MaxDeliveryCountExceeded"], "body, reason");
    await expectBodies(connection, of(topic, "b"), "poison", "good");
  },

  "subscription-sessions": async (connection, topic) => {
    const pairs = [["x", "x1"], ["y", "y1"], ["x", "x2"]];
    await sendAll(connection, topic, ...pairs.map(([group_id, body]) => ({ group_id, body })));
    for (const [asked, wanted] of [["x", ["x1", "x2"]], [undefined, ["y1"]]]) {
      const receiver = await openSession(connection, of(topic, "a"), asked);
      expect(receiver.link.source.filter[SESSION], wanted[0][0], "session");
      for (const body of wanted) {
        const { message, delivery } = await receiver.one();
        expect(message.body, body);
        delivery.accept();
      }
      await close(receiver);
    }
  },

  // One subscription forwards to a queue, the other to a topic that takes what is big.
  "subscription-forward": async (connection, topic) => {
    await sendAll(connection, topic, sized("small", 1, "red"), sized("big", 7, "blue"));
    await expectBodies(connection, `${topic}.queue`, "small", "big");
    await expectBodies(connection, of(`${topic}.topic`, "end"), "big");
  },
};

const bound = (name, body) => (broker) =>
  connected(broker, (connection) => body(connection, broker.queue(name)));

export const topics = Object.fromEntries(
  Object.entries(scenarios).map(([name, body]) => [name, bound(name, body)]),
);
