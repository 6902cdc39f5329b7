// @azure/service-bus with message sessions, schedules, deferral, duplicates and lifetimes.

import { EMPTY_MS, expect, sleep } from "./harness.mjs";
import { connected, expectEmpty, fails, receive, send, withId } from "./servicebus_client.mjs";

const DEAD = { subQueueType: "deadLetter" };
// The client renews a session's lock by itself, which would hide when it ends.
const NO_RENEWAL = { maxAutoLockRenewalDurationInMs: 0 };

async function sendIn(client, queue, ...pairs) {
  const sender = client.createSender(queue);
  for (const [sessionId, body] of pairs) {
    await sender.sendMessages({ ...withId(body), sessionId });
  }
  await sender.close();
}

async function expectEmptySession(client, queue, sessionId) {
  const receiver = await client.acceptSession(queue, sessionId);
  const rest = await receiver.receiveMessages(10, { maxWaitTimeInMs: EMPTY_MS });
  expect(rest.map((m) => m.body), [], `messages left in ${sessionId}`);
  await receiver.close();
}

const peeked = async (receiver) =>
  (await receiver.peekMessages(10)).map((m) => [m.body, m.state]);

export const features = {
  "session-named": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("session-named");
      await sendIn(client, queue, ["a", "a1"], ["b", "b1"], ["a", "a2"], ["b", "b2"]);
      const b = await client.acceptSession(queue, "b");
      expect(b.sessionId, "b", "session");
      expect(b.sessionLockedUntilUtc > new Date(), true, "the lock lasts");
      const messages = await receive(b, 2);
      expect(messages.map((m) => [m.sessionId, m.body]), [["b", "b1"], ["b", "b2"]], "messages");
      expect(await b.receiveMessages(1, { maxWaitTimeInMs: EMPTY_MS }), [], "more");
      await fails("SessionCannotBeLocked", client.acceptSession(queue, "b"));
      for (const message of messages) await b.completeMessage(message);
      await b.close();
      const a = await client.acceptSession(queue, "a");
      const [first] = await receive(a, 1);
      expect([first.body, first.deliveryCount], ["a1", 0]);
      await a.abandonMessage(first);
      for (const wanted of [["a1", 1], ["a2", 0]]) {
        const [message] = await receive(a, 1);
        expect([message.body, message.deliveryCount], wanted, "body, count");
        await a.completeMessage(message);
      }
      await a.close();
      for (const name of ["a", "b"]) await expectEmptySession(client, queue, name);
      const plain = client.createReceiver(queue);
      await fails("GeneralError", plain.receiveMessages(1, { maxWaitTimeInMs: 2000 }));
      await fails("GeneralError", send(client, queue, "of no session"));
    }, { retries: 0 }),

  "session-next": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("session-next");
      const nothing = async () => {
        const started = Date.now();
        await fails("ServiceTimeout", client.acceptNextSession(queue));
        expect(Date.now() - started > 1500, true, "it was waited for a session");
      };
      await nothing();
      await sendIn(client, queue, ["x", "x1"], ["y", "y1"]);
      const first = await client.acceptNextSession(queue);
      const second = await client.acceptNextSession(queue);
      expect([first.sessionId, second.sessionId], ["x", "y"], "sessions");
      await nothing();
      const [x] = await receive(first, 1);
      expect(x.body, "x1");
      await first.completeMessage(x);
      const [y] = await receive(second, 1);
      expect(y.body, "y1");
      await first.close();
      // Closed without settling.
      await second.close();
      const again = await client.acceptNextSession(queue);
      expect(again.sessionId, "y", "session");
      const [message] = await receive(again, 1);
      expect([message.body, message.deliveryCount], ["y1", 0], "body, count");
      await again.completeMessage(message);
      await again.close();
      await nothing();
    }, { retries: 0, timeout: 2000 }),

  "session-state": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("session-state");
      const s = await client.acceptSession(queue, "s");
      expect(await s.getSessionState(), null, "state at first");
      await s.setSessionState({ half: "done" });
      expect(await s.getSessionState(), { half: "done" }, "state");
      await s.close();
      const other = await client.acceptSession(queue, "other");
      expect(await other.getSessionState(), null, "state of another session");
      await other.close();
      const again = await client.acceptSession(queue, "s");
      expect(await again.getSessionState(), { half: "done" }, "state kept");
      await again.setSessionState(null);
      expect(await again.getSessionState(), null, "state removed");
      await again.close();
    }),

  // The queue locks for five seconds.
  "session-renewal": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("session-renewal");
      await sendIn(client, queue, ["s", "slow work"], ["s", "late work"]);
      const receiver = await client.acceptSession(queue, "s", NO_RENEWAL);
      const [message] = await receive(receiver, 1);
      let until = receiver.sessionLockedUntilUtc;
      for (let i = 0; i < 2; i += 1) {
        await sleep(3000);
        const renewed = await receiver.renewSessionLock();
        expect(renewed > until, true, `${renewed} is later than ${until}`);
        until = renewed;
      }
      await receiver.completeMessage(message);
      const [late] = await receive(receiver, 1);
      expect([late.body, late.deliveryCount], ["late work", 0]);
      await sleep(6000);
      const other = await client.acceptSession(queue, "s", NO_RENEWAL);
      const [again] = await receive(other, 1);
      expect([again.body, again.deliveryCount], ["late work", 1], "body, count");
      await fails("SessionLockLost", receiver.completeMessage(late));
      await other.completeMessage(again);
      await other.close();
      await expectEmptySession(client, queue, "s");
    }, { retries: 0 }),

  schedule: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("schedule");
      const due = new Date(Date.now() + 4000);
      const sender = client.createSender(queue);
      const numbers = await sender.scheduleMessages(["first", "second"].map(withId), due);
      expect(new Set(numbers.map(String)).size, 2, "sequence numbers");
      const scheduledEnqueueTimeUtc = new Date(due.getTime() + 1000);
      await sender.sendMessages({ ...withId("third"), scheduledEnqueueTimeUtc });
      await sender.sendMessages(withId("at once"));
      const receiver = client.createReceiver(queue);
      expect(
        Object.fromEntries(await peeked(receiver)),
        { first: "scheduled", second: "scheduled", third: "scheduled", "at once": "active" },
        "states",
      );
      const [now] = await receive(receiver, 1);
      expect(now.body, "at once");
      await receiver.completeMessage(now);
      const early = await receiver.receiveMessages(1, { maxWaitTimeInMs: EMPTY_MS });
      expect(early.length, 0, "too early");
      for (const wanted of ["first", "second", "third"]) {
        const [message] = await receive(receiver, 1);
        expect(message.body, wanted);
        expect(message.enqueuedTimeUtc >= due, true, "enqueued when it was due");
        const same = numbers.some((number) => number.equals(message.sequenceNumber));
        expect(same, false, "the number of the schedule");
        expect(message.scheduledEnqueueTimeUtc instanceof Date, true, "scheduled time");
        await receiver.completeMessage(message);
      }
      await expectEmpty(client, queue);
    }),

  cancel: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("cancel");
      const sender = client.createSender(queue);
      const due = new Date(Date.now() + 3000);
      const numbers = await sender.scheduleMessages(["cancelled", "kept"].map(withId), due);
      await sender.cancelScheduledMessages(numbers[0]);
      await fails("MessageNotFound", sender.cancelScheduledMessages(numbers[0]));
      const receiver = client.createReceiver(queue);
      const [message] = await receive(receiver, 1);
      expect(message.body, "kept");
      await receiver.completeMessage(message);
      await fails("MessageNotFound", sender.cancelScheduledMessages(numbers[1]));
      await expectEmpty(client, queue);
    }),

  defer: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("defer");
      await send(client, queue, "1", "2", "3", "4");
      const receiver = client.createReceiver(queue);
      const numbers = [];
      for (const message of await receive(receiver, 3)) {
        numbers.push(message.sequenceNumber);
        await receiver.deferMessage(message);
      }
      const [fourth] = await receive(receiver, 1);
      expect(fourth.body, "4");
      await receiver.completeMessage(fourth);
      await expectEmpty(client, queue);
      const deferred = ["1", "2", "3"].map((body) => [body, "deferred"]);
      expect(await peeked(receiver), deferred, "peeked");
      const [first, second] = await receiver.receiveDeferredMessages(numbers.slice(0, 2));
      expect([first.body, second.body], ["1", "2"]);
      await fails("MessageNotFound", receiver.receiveDeferredMessages(numbers[0]));
      await receiver.renewMessageLock(first);
      await receiver.completeMessage(first);
      await receiver.abandonMessage(second);
      await expectEmpty(client, queue);
      const [again] = await receiver.receiveDeferredMessages(numbers[1]);
      expect([again.body, again.deliveryCount], ["2", 1], "body, count");
      await receiver.deadLetterMessage(again, { deadLetterReason: "given up" });
      const dead = client.createReceiver(queue, DEAD);
      const [message] = await receive(dead, 1);
      expect([message.body, message.deadLetterReason], ["2", "given up"]);
      await dead.completeMessage(message);
      const deleting = client.createReceiver(queue, { receiveMode: "receiveAndDelete" });
      const [last] = await deleting.receiveDeferredMessages(numbers[2]);
      expect(last.body, "3");
      expect(await peeked(deleting), [], "peeked at the end");
    }),

  // The queue remembers ids for a minute.
  duplicates: (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("duplicates");
      const sender = client.createSender(queue);
      for (const messageId of ["a", "b", "a"]) {
        await sender.sendMessages({ messageId, body: `${messageId} alone` });
      }
      const twice = (messageId) => ({ messageId, body: `${messageId} in a batch` });
      await sender.sendMessages(["b", "c", "c"].map(twice));
      const receiver = client.createReceiver(queue);
      for (const wanted of ["a alone", "b alone", "c in a batch"]) {
        const [message] = await receive(receiver, 1);
        expect(message.body, wanted);
        await receiver.completeMessage(message);
      }
      await sender.sendMessages({ messageId: "a", body: "after completion" });
      await sender.scheduleMessages({ messageId: "a", body: "scheduled" }, new Date());
      await expectEmpty(client, queue);
    }),

  // Messages of the queue live for three seconds at most, and end in the dead-letter queue.
  "time-to-live": (broker) =>
    connected(broker, async (client) => {
      const queue = broker.queue("time-to-live");
      const sender = client.createSender(queue);
      await sender.sendMessages({ ...withId("short"), timeToLive: 1000 });
      await sender.sendMessages({ ...withId("long"), timeToLive: 3_600_000 });
      await sender.sendMessages(withId("unset"));
      const receiver = client.createReceiver(queue);
      const [short] = await receive(receiver, 1);
      expect(short.body, "short");
      expect(short.expiresAtUtc - short.enqueuedTimeUtc, 1000, "lifetime");
      await receiver.abandonMessage(short);
      await sleep(4000);
      await expectEmpty(client, queue);
      const dead = client.createReceiver(queue, DEAD);
      const messages = await receive(dead, 3);
      expect(messages.map((m) => m.body).sort(), ["long", "short", "unset"], "dead letters");
      for (const message of messages) {
        expect(message.deadLetterReason, "TTLExpiredException", "reason");
        await dead.completeMessage(message);
      }
      await expectEmpty(client, queue, DEAD);
    }),

  // The queue forwards to another, whose dead letters go to a third.
  forward: (broker) =>
    connected(broker, async (client) => {
      const [queue, target, dead] = ["", ".target", ".dead"].map((p) => broker.queue(`forward${p}`));
      await send(client, queue, "good", "bad");
      const receiver = client.createReceiver(target);
      const [good] = await receive(receiver, 1);
      expect([good.body, good.deliveryCount], ["good", 0], "body, count");
      await receiver.completeMessage(good);
      const [bad] = await receive(receiver, 1);
      await receiver.deadLetterMessage(bad, { deadLetterReason: "unreadable" });
      const last = client.createReceiver(dead);
      const [message] = await receive(last, 1);
      expect([message.body, message.deadLetterReason], ["bad", "unreadable"]);
      expect(message.deadLetterSource, target, "source");
      await last.completeMessage(message);
      for (const name of [target, dead]) await expectEmpty(client, name);
    }),
};
