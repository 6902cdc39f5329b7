// rhea, a plain AMQP 1.0 client: SASL PLAIN, and the settle modes that it has by default.

import rhea from "rhea";

import {
  expect,
  IDLE_MS,
  LARGE,
  OVERSIZE,
  pattern,
  run,
  sleep,
  waitForRestart,
  within,
} from "./harness.mjs";
import {
  connect,
  connected,
  count,
  DEAD,
  expectEmpty,
  fails,
  next,
  openReceiver,
  openSender,
  send,
  sendBodies,
} from "./rhea_client.mjs";
import { doors } from "./rhea_doors.mjs";
import { features } from "./rhea_features.mjs";
import { subscriptions } from "./rhea_jms.mjs";
import { selectors } from "./rhea_selectors.mjs";
import { topics } from "./rhea_topics.mjs";

const scenarios = {
  "send-one": (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("send-one");
      const sender = await openSender(connection, queue);
      const { types } = rhea;
      await send(sender, {
        body: rhea.message.data_section(Buffer.from("hello")),
        message_id: "m-1",
        subject: "greeting",
        correlation_id: "c-1",
        content_type: "text/plain",
        durable: true,
        priority: 7,
        application_properties: {
          text: "é",
          short: types.wrap_short(-7),
          uint: types.wrap_uint(7),
          fraction: 1.5,
          flag: true,
        },
        message_annotations: { "x-ours": "kept" },
      });
      const receiver = await openReceiver(connection, queue);
      const { message, delivery } = await receiver.one();
      expect(message.body.content.toString(), "hello", "body");
      expect(message.message_id, "m-1");
      expect(message.subject, "greeting");
      expect(message.correlation_id, "c-1");
      expect(message.content_type, "text/plain");
      expect([message.durable, message.priority], [true, 7], "header");
      expect(
        message.application_properties,
        { text: "é", short: -7, uint: 7, fraction: 1.5, flag: true },
        "application properties",
      );
      expect(message.message_annotations["x-ours"], "kept", "annotation");
      expect(Number(message.message_annotations["x-opt-sequence-number"]) > 0, true, "number");
      expect(delivery.tag.length, 16, "length of the delivery tag");
      expect(count(message), 0, "delivery count");
      delivery.accept();
      await expectEmpty(connection, queue);
    }),

  "batch-100": (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("batch-100");
      const sender = await openSender(connection, queue);
      const wanted = Array.from({ length: 100 }, (_, i) => `body ${i}`);
      const inner = wanted.map((body) => rhea.message.encode({ body }));
      const envelope = rhea.message.encode({ body: rhea.message.data_sections(inner) });
      await send(sender, envelope, undefined, 0x80013700);
      const receiver = await openReceiver(connection, queue, { credit: 100 });
      const bodies = [];
      for (let i = 0; i < 100; i += 1) {
        const { message, delivery } = await receiver.take();
        bodies.push(message.body);
        delivery.accept();
      }
      expect(bodies, wanted, "bodies");
      await expectEmpty(connection, queue);
    }),

  large: (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("large");
      const sent = pattern(LARGE);
      await sendBodies(connection, queue, rhea.message.data_section(sent));
      const receiver = await openReceiver(connection, queue);
      const { message, delivery } = await receiver.one();
      expect(sent.equals(message.body.content), true, "the body is the one sent");
      delivery.accept();
      await expectEmpty(connection, queue);
    }),

  complete: (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("complete");
      await sendBodies(connection, queue, "1", "2", "3");
      const receiver = await openReceiver(connection, queue);
      for (const wanted of ["1", "2", "3"]) {
        const { message, delivery } = await receiver.one();
        expect(message.body, wanted, "body");
        delivery.accept();
      }
      await expectEmpty(connection, queue);
    }),

  abandon: (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("abandon");
      await sendBodies(connection, queue, "again", "later");
      const receiver = await openReceiver(connection, queue);
      // `modified` counts whether it says that the delivery failed or not; `released` does not.
      const abandons = [
        (delivery) => delivery.modified({ delivery_failed: true }),
        (delivery) => delivery.modified({ delivery_failed: false }),
        (delivery) => delivery.release(),
      ];
      for (const [index, act] of abandons.entries()) {
        const { message, delivery } = await receiver.one();
        expect([message.body, count(message)], ["again", index]);
        act(delivery);
      }
      for (const wanted of [["again", 2], ["later", 0]]) {
        const { message, delivery } = await receiver.one();
        expect([message.body, count(message)], wanted, "body and count");
        delivery.accept();
      }
      await expectEmpty(connection, queue);
    }),

  "dead-letter": (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("dead-letter");
      await sendBodies(connection, queue, "bad", "good");
      const receiver = await openReceiver(connection, queue);
      const bad = await receiver.one();
      bad.delivery.reject({
        condition: "com.microsoft:dead-letter",
        description: "it made no sense",
        info: { DeadLetterReason: "unreadable", DeadLetterErrorDescription: "it made no sense" },
      });
      const good = await receiver.one();
      expect(good.message.body, "good");
      good.delivery.accept();
      const dead = await openReceiver(connection, queue + DEAD);
      const { message, delivery } = await dead.one();
      expect(message.body, "bad", "body");
      const properties = message.application_properties;
      expect(properties.DeadLetterReason, "unreadable", "reason");
      expect(properties.DeadLetterErrorDescription, "it made no sense", "description");
      delivery.accept();
      await expectEmpty(connection, queue);
      await expectEmpty(connection, queue + DEAD);
    }),

  // The queue allows three deliveries.
  "max-delivery": (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("max-delivery");
      await sendBodies(connection, queue, "poison");
      const receiver = await openReceiver(connection, queue);
      for (const wanted of [0, 1, 2]) {
        const { message, delivery } = await receiver.one();
        expect(count(message), wanted, "delivery count");
        delivery.modified({ delivery_failed: true });
      }
      await expectEmpty(connection, queue);
      const dead = await openReceiver(connection, queue + DEAD);
      const { message, delivery } = await dead.one();
      const reason = message.application_properties.DeadLetterReason;
      expect(reason, "MaxDeliveryCountExceeded", "reason");
      delivery.accept();
      await expectEmpty(connection, queue + DEAD);
    }),

  // The queue locks for five seconds. In the mode `second` the broker says what came of a settlement.
  "lock-expiry": (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("lock-expiry");
      await sendBodies(connection, queue, "first");
      const receiver = await openReceiver(connection, queue, { rcv_settle_mode: 1 });
      const late = await receiver.one();
      const other = await openReceiver(connection, queue, { rcv_settle_mode: 1 });
      const again = await other.one();
      expect([again.message.body, count(again.message)], ["first", 1]);
      for (const [from, { delivery }, outcome] of [
        [receiver, late, "rejected"],
        [other, again, "accepted"],
      ]) {
        const settled = next(from.link, "settled");
        delivery.accept();
        await settled;
        const state = delivery.remote_state;
        expect(state?.constructor?.composite_type, outcome, "outcome");
        if (outcome === "rejected") {
          expect(state.error.condition, "com.microsoft:message-lock-lost", "condition");
        }
      }
      await expectEmpty(connection, queue);
    }),

  "receive-and-delete": (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("receive-and-delete");
      const wanted = Array.from({ length: 10 }, (_, i) => String(i));
      await sendBodies(connection, queue, ...wanted);
      const receiver = await openReceiver(connection, queue, { snd_settle_mode: 1, credit: 10 });
      for (const body of wanted) {
        const { message, delivery } = await receiver.take();
        expect([message.body, delivery.remote_settled], [body, true], "body, settled");
      }
      await expectEmpty(connection, queue);
    }),

  prefetch: (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("prefetch");
      const wanted = Array.from({ length: 50 }, (_, i) => String(i));
      await sendBodies(connection, queue, ...wanted);
      const receiver = await openReceiver(connection, queue, { credit_window: 20 });
      for (const body of wanted) {
        const { message, delivery } = await receiver.take();
        expect([message.body, count(message)], [body, 0]);
        delivery.accept();
      }
      receiver.link.close();
      await expectEmpty(connection, queue);
    }),

  drain: (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("drain");
      const receiver = await openReceiver(connection, queue, { credit: 10 });
      await receiver.drain();
      expect([receiver.waiting.length, receiver.link.credit], [0, 0], "messages, credit");
      await sendBodies(connection, queue, "1", "2", "3");
      await sleep(200);
      expect(receiver.waiting.length, 0, "messages without credit");
      receiver.link.add_credit(10);
      const first = await receiver.take();
      await receiver.drain();
      expect([receiver.waiting.length, receiver.link.credit], [2, 0], "messages, credit");
      for (const [index, { message, delivery }] of [first, ...receiver.waiting].entries()) {
        expect(message.body, String(index + 1));
        delivery.accept();
      }
      await expectEmpty(connection, queue);
    }),

  "wrong-key": async (broker) => {
    const error = await connect(broker, { password: "WRONG_KEY" }).then(
      (connection) => (connection.close(), new Error("let in")),
      (refusal) => refusal,
    );
    expect(error?.condition, "amqp:unauthorized-access", `condition of ${error}`);
  },

  "missing-entity": (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("there-is-no-such-queue");
      const error = await fails("amqp:not-found", openSender(connection, queue));
      expect(error.description.startsWith("The messaging entity '"), true, error.description);
      const receiver = connection.open_receiver({ source: queue, credit_window: 0 });
      const refused = next(receiver, "receiver_error");
      await refused;
      expect(receiver.error.condition, "amqp:not-found", "condition");
    }),

  oversize: (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("oversize");
      const sender = await openSender(connection, queue);
      const big = { body: rhea.message.data_section(Buffer.alloc(OVERSIZE, "x")) };
      await fails("amqp:link:message-size-exceeded", send(sender, big));
      await send(sender, { body: "small" });
      const receiver = await openReceiver(connection, queue);
      const { message, delivery } = await receiver.one();
      expect(message.body, "small");
      delivery.accept();
      await expectEmpty(connection, queue);
    }),

  ...features,
  ...selectors,
  ...subscriptions,
  ...topics,
  ...doors,

  idle: (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("idle");
      const cut = new Promise((_, reject) =>
        connection.once("disconnected", () => reject(new Error("disconnected while idle"))),
      );
      const sender = await openSender(connection, queue);
      const receiver = await openReceiver(connection, queue);
      for (const body of ["before", "after"]) {
        await send(sender, { body });
        const { message, delivery } = await receiver.one();
        expect(message.body, body);
        delivery.accept();
        if (body === "before") await Promise.race([sleep(IDLE_MS), cut]);
      }
      cut.catch(() => {});
    }),

  reconnect: (broker) =>
    connected(
      broker,
      async (connection) => {
        const queue = broker.queue("reconnect");
        const sender = await openSender(connection, queue);
        const receiver = await openReceiver(connection, queue);
        for (const body of ["done", "locked", "kept"]) await send(sender, { body });
        const done = await receiver.one();
        done.delivery.accept();
        const locked = await receiver.one();
        expect(locked.message.body, "locked");
        // The client attaches its links again by itself.
        const back = new Promise((resolve) => connection.once("connection_open", resolve));
        await waitForRestart();
        await within(30_000, back, "connected again");
        while (!sender.sendable()) await sleep(50);
        await send(sender, { body: "new" });
        for (const wanted of ["locked", "kept", "new"]) {
          const { message, delivery } = await receiver.one();
          expect(message.body, wanted);
          delivery.accept();
        }
        await expectEmpty(connection, queue);
      },
      { reconnect: 200 },
    ),
};

await run("rhea", scenarios);
