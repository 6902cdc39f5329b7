// @azure/service-bus for JavaScript, as it ships.

import { delay } from "@azure/service-bus";

import { expect, IDLE_MS, LARGE, OVERSIZE, pattern, run, sleep, waitForRestart } from "./harness.mjs";
import { connected, expectEmpty, fails, receive, send, withId } from "./servicebus_client.mjs";
import { doors } from "./servicebus_doors.mjs";
import { features } from "./servicebus_features.mjs";
import { identity } from "./servicebus_identity.mjs";
import { management } from "./servicebus_management.mjs";
import { topics } from "./servicebus_topics.mjs";

const scenarios = {
  "send-one": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("send-one");
      const sender = client.createSender(queue);
      await sender.sendMessages({
        body: { hello: ["world", 1] },
        messageId: "m-1",
        subject: "greeting",
        correlationId: "c-1",
        contentType: "application/json",
        to: "somebody",
        replyTo: "answers",
        timeToLive: 3_600_000,
        applicationProperties: { text: "é", number: 7, negative: -1, fraction: 1.5, flag: true },
      });
      const receiver = client.createReceiver(queue);
      const [message] = await receive(receiver, 1);
      expect(message.body, { hello: ["world", 1] }, "body");
      expect(message.messageId, "m-1");
      expect(message.subject, "greeting");
      expect(message.correlationId, "c-1");
      expect(message.contentType, "application/json");
      expect(message.to, "somebody");
      expect(message.replyTo, "answers");
      expect(message.timeToLive, 3_600_000, "time to live");
      expect(
        message.applicationProperties,
        { text: "é", number: 7, negative: -1, fraction: 1.5, flag: true },
        "application properties",
      );
      expect(message.deliveryCount, 0, "delivery count");
      const age = Date.now() - message.enqueuedTimeUtc.getTime();
      expect(Math.abs(age) < 60_000, true, `enqueued ${age} ms ago; near now`);
      await receiver.completeMessage(message);
      await expectEmpty(client, queue);
    }),

  "batch-100": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("batch-100");
      const sender = client.createSender(queue);
      const batch = await sender.createMessageBatch();
      for (let i = 0; i < 100; i += 1) {
        expect(batch.tryAddMessage({ body: `body ${i}`, messageId: `id ${i}` }), true, "added");
      }
      await sender.sendMessages(batch);
      const receiver = client.createReceiver(queue);
      const messages = await receive(receiver, 100);
      const wanted = Array.from({ length: 100 }, (_, i) => i);
      expect(messages.map((m) => m.body), wanted.map((i) => `body ${i}`), "bodies");
      expect(messages.map((m) => m.messageId), wanted.map((i) => `id ${i}`), "ids");
      for (const message of messages) await receiver.completeMessage(message);
      await expectEmpty(client, queue);
    }),

  large: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("large");
      const sent = pattern(LARGE);
      await send(client, queue, sent);
      const receiver = client.createReceiver(queue);
      const [message] = await receive(receiver, 1);
      expect(sent.equals(message.body), true, "the body is the one sent");
      await receiver.completeMessage(message);
      await expectEmpty(client, queue);
    }),

  complete: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("complete");
      await send(client, queue, "1", "2", "3");
      const receiver = client.createReceiver(queue);
      for (const wanted of ["1", "2", "3"]) {
        const [message] = await receive(receiver, 1);
        expect(message.body, wanted, "body");
        await receiver.completeMessage(message);
      }
      await expectEmpty(client, queue);
    }),

  abandon: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("abandon");
      await send(client, queue, "again", "later");
      const receiver = client.createReceiver(queue);
      for (const count of [0, 1, 2]) {
        const [message] = await receive(receiver, 1);
        expect([message.body, message.deliveryCount], ["again", count]);
        await receiver.abandonMessage(message, { tried: count + 1 });
      }
      for (const wanted of [["again", 3, 3], ["later", 0, null]]) {
        const [message] = await receive(receiver, 1);
        const tried = message.applicationProperties?.tried ?? null;
        expect([message.body, message.deliveryCount, tried], wanted, "body, count, property");
        await receiver.completeMessage(message);
      }
      await expectEmpty(client, queue);
    }),

  "dead-letter": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("dead-letter");
      await send(client, queue, "bad", "good");
      const receiver = client.createReceiver(queue);
      const [bad] = await receive(receiver, 1);
      await receiver.deadLetterMessage(bad, {
        deadLetterReason: "unreadable",
        deadLetterErrorDescription: "it made no sense",
        attempt: "first",
      });
      const [good] = await receive(receiver, 1);
      expect(good.body, "good");
      await receiver.completeMessage(good);
      const dead = client.createReceiver(queue, { subQueueType: "deadLetter" });
      const [message] = await receive(dead, 1);
      expect(message.body, "bad", "body");
      expect(message.deadLetterReason, "unreadable", "reason");
      expect(message.deadLetterErrorDescription, "it made no sense", "description");
      expect(message.applicationProperties.attempt, "first", "property");
      await dead.completeMessage(message);
      await expectEmpty(client, queue);
      await expectEmpty(client, queue, { subQueueType: "deadLetter" });
    }),

  // The queue allows three deliveries.
  "max-delivery": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("max-delivery");
      await send(client, queue, "poison");
      const receiver = client.createReceiver(queue);
      for (const count of [0, 1, 2]) {
        const [message] = await receive(receiver, 1);
        expect(message.deliveryCount, count, "delivery count");
        await receiver.abandonMessage(message);
      }
      await expectEmpty(client, queue);
      const dead = client.createReceiver(queue, { subQueueType: "deadLetter" });
      const [message] = await receive(dead, 1);
      expect(message.deadLetterReason, "MaxDeliveryCountExceeded", "reason");
      await dead.completeMessage(message);
      await expectEmpty(client, queue, { subQueueType: "deadLetter" });
    }),

  // The queue locks for five seconds.
  "lock-renewal": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("lock-renewal");
      await send(client, queue, "slow work");
      // Without the client's own renewal, which would hide whether ours came.
      const receiver = client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 0 });
      const [message] = await receive(receiver, 1);
      let until = message.lockedUntilUtc;
      for (let i = 0; i < 2; i += 1) {
        await sleep(3000);
        const renewed = await receiver.renewMessageLock(message);
        expect(renewed > until, true, `${renewed} is later than ${until}`);
        until = renewed;
      }
      await receiver.completeMessage(message);
      await expectEmpty(client, queue);
    }),

  // The queue locks for five seconds.
  "lock-expiry": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("lock-expiry");
      await send(client, queue, "first", "second");
      const options = { maxAutoLockRenewalDurationInMs: 0 };
      const receiver = client.createReceiver(queue, options);
      const [late] = await receive(receiver, 1);
      expect([late.body, late.deliveryCount], ["first", 0]);
      const other = client.createReceiver(queue, options);
      const [second] = await receive(other, 1);
      expect(second.body, "second");
      await other.completeMessage(second);
      const [again] = await receive(other, 1);
      expect([again.body, again.deliveryCount], ["first", 1]);
      expect(again.sequenceNumber.toString(), late.sequenceNumber.toString(), "sequence number");
      await fails("MessageLockLost", receiver.completeMessage(late));
      await fails("MessageLockLost", receiver.renewMessageLock(late));
      await other.completeMessage(again);
      await expectEmpty(client, queue);
    }),

  "receive-and-delete": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("receive-and-delete");
      const wanted = Array.from({ length: 10 }, (_, i) => String(i));
      await send(client, queue, ...wanted);
      const receiver = client.createReceiver(queue, { receiveMode: "receiveAndDelete" });
      const messages = await receive(receiver, 10);
      expect(messages.map((m) => m.body), wanted, "bodies");
      await receiver.close();
      await expectEmpty(client, queue);
    }),

  peek: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("peek");
      const receiver = client.createReceiver(queue);
      expect(await receiver.peekMessages(5), [], "messages in an empty queue");
      await send(client, queue, "0", "1", "2", "3", "4");
      const [locked] = await receive(receiver, 1);
      const seen = await receiver.peekMessages(3);
      expect(seen.map((m) => m.body), ["0", "1", "2"], "peeked, the locked one among them");
      const rest = await receiver.peekMessages(10);
      expect(rest.map((m) => m.body), ["3", "4"], "peeked next");
      expect(rest[0].state, "active", "state");
      expect(await receiver.peekMessages(5), [], "beyond the last");
      const again = await receiver.peekMessages(1, { fromSequenceNumber: seen[1].sequenceNumber });
      expect(again.map((m) => m.body), ["1"], "peeked from a number");
      await receiver.completeMessage(locked);
      for (const message of await receive(receiver, 4)) {
        expect(message.deliveryCount, 0, "delivery count after peeking");
        await receiver.completeMessage(message);
      }
      await expectEmpty(client, queue);
    }),

  // A subscription keeps its credit up, as a prefetch does.
  prefetch: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("prefetch");
      const sender = client.createSender(queue);
      const wanted = Array.from({ length: 50 }, (_, i) => String(i));
      await sender.sendMessages(wanted.map(withId));
      const receiver = client.createReceiver(queue);
      const bodies = [];
      await new Promise((resolve, reject) => {
        receiver.subscribe(
          {
            processMessage: async (message) => {
              if (message.deliveryCount !== 0) reject(new Error("delivered again"));
              bodies.push(message.body);
              if (bodies.length === 50) resolve();
            },
            processError: async ({ error }) => reject(error),
          },
          { maxConcurrentCalls: 10, autoCompleteMessages: true },
        );
        delay(20_000).then(() => reject(new Error(`only ${bodies.length} messages`)));
      });
      expect(bodies, wanted, "bodies");
      // Closing waits for the handlers, and so for the last completions.
      await receiver.close();
      await expectEmpty(client, queue);
    }),

  // Every receiveMessages that gets fewer than it asked for drains its link.
  drain: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("drain");
      const receiver = client.createReceiver(queue);
      const maxWaitTimeInMs = 500;
      for (let round = 0; round < 3; round += 1) {
        const none = await receiver.receiveMessages(20, { maxWaitTimeInMs });
        expect(none.length, 0, "messages in an empty queue");
        await send(client, queue, "1", "2", "3");
        const messages = await receiver.receiveMessages(20, { maxWaitTimeInMs });
        expect(messages.map((m) => [m.body, m.deliveryCount]), [["1", 0], ["2", 0], ["3", 0]]);
        for (const message of messages) await receiver.completeMessage(message);
      }
      await expectEmpty(client, queue);
    }),

  "wrong-key": async (broker) => {
    const queue = broker.queue("wrong-key");
    const wrong = { key: "WRONG_KEY", retries: 0 };
    await connected(broker, async (client) => {
      const sender = client.createSender(queue);
      await fails("UnauthorizedAccess", sender.sendMessages({ body: "not allowed" }));
    }, wrong);
    await connected(broker, async (client) => {
      const receiver = client.createReceiver(queue);
      const call = receiver.receiveMessages(1, { maxWaitTimeInMs: 2000 });
      await fails("UnauthorizedAccess", call);
    }, wrong);
    await connected(broker, (client) => expectEmpty(client, queue));
  },

  "missing-entity": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("there-is-no-such-queue");
      const sender = client.createSender(queue);
      await fails("MessagingEntityNotFound", sender.sendMessages({ body: "lost" }));
      const receiver = client.createReceiver(queue);
      const call = receiver.receiveMessages(1, { maxWaitTimeInMs: 2000 });
      await fails("MessagingEntityNotFound", call);
    }, { retries: 0 }),

  oversize: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("oversize");
      const sender = client.createSender(queue);
      const big = withId(Buffer.alloc(OVERSIZE, "x"));
      // This client sends it and leaves it to the broker to refuse.
      await fails("MessageSizeExceeded", sender.sendMessages(big));
      const batch = await sender.createMessageBatch();
      expect(batch.tryAddMessage(big), false, "added to a batch");
      await sender.sendMessages(withId("small"));
      const receiver = client.createReceiver(queue);
      const [message] = await receive(receiver, 1);
      expect(message.body, "small");
      await receiver.completeMessage(message);
      await expectEmpty(client, queue);
    }, { retries: 0 }),

  ...features,
  ...management,
  ...topics,
  ...doors,
  ...identity,

  idle: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("idle");
      const sender = client.createSender(queue);
      const receiver = client.createReceiver(queue);
      for (const body of ["before", "after"]) {
        await sender.sendMessages(withId(body));
        const [message] = await receive(receiver, 1);
        expect(message.body, body);
        await receiver.completeMessage(message);
        if (body === "before") await sleep(IDLE_MS);
      }
    }, { retries: 0 }),

  reconnect: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("reconnect");
      const sender = client.createSender(queue);
      const receiver = client.createReceiver(queue);
      await sender.sendMessages(["done", "locked", "kept"].map(withId));
      const [done, locked] = await receive(receiver, 2);
      await receiver.completeMessage(done);
      expect(locked.body, "locked");
      await waitForRestart();
      await sender.sendMessages(withId("new"));
      const bodies = [];
      for (const message of await receive(receiver, 3, 40_000)) {
        bodies.push(message.body);
        await receiver.completeMessage(message);
      }
      expect(bodies, ["locked", "kept", "new"], "bodies");
      await expectEmpty(client, queue);
    }),
};

await run("js", scenarios);
