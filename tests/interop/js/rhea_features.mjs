// rhea with what a plain AMQP client can say of message sessions, schedules, duplicates and lifetimes.

import rhea from "rhea";

import { expect, sleep } from "./harness.mjs";
import {
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

export const SESSION = "com.microsoft:session-filter";

export async function sendAll(connection, queue, ...messages) {
  const sender = await openSender(connection, queue);
  for (const message of messages) await send(sender, message);
  sender.close();
}

const source = (queue, name) => ({ address: queue, filter: { [SESSION]: name } });

/** The options of a receiver of a session: this one, or without a name the next one within two seconds. */
function sessionOptions(queue, name) {
  if (name !== undefined) return { source: source(queue, name) };
  const properties = { "com.microsoft:timeout": rhea.types.wrap_uint(2000) };
  return { source: source(queue, undefined), properties };
}

export const openSession = (connection, queue, name) =>
  openReceiver(connection, queue, sessionOptions(queue, name));

/** A refused link opens first, and closes with the error at once. */
export async function refused(condition, connection, options) {
  const receiver = connection.open_receiver({ credit_window: 0, autoaccept: false, ...options });
  await next(receiver, "receiver_error");
  expect(receiver.error.condition, condition, "condition");
}

export async function close({ link }) {
  link.close();
  await next(link, "receiver_close");
}

export const features = {
  "session-named": (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("session-named");
      const pairs = [["a", "a1"], ["b", "b1"], ["a", "a2"], ["b", "b2"]];
      const messages = pairs.map(([group_id, body]) => ({ group_id, body }));
      await sendAll(connection, queue, ...messages);
      const b = await openSession(connection, queue, "b");
      expect(b.link.source.filter[SESSION], "b", "session");
      b.link.add_credit(10);
      for (const wanted of ["b1", "b2"]) {
        const { message, delivery } = await b.take();
        expect([message.group_id, message.body], ["b", wanted], "session, body");
        delivery.accept();
      }
      await sleep(200);
      expect(b.waiting.length, 0, "messages of other sessions");
      const locked = "com.microsoft:session-cannot-be-locked";
      await refused(locked, connection, sessionOptions(queue, "b"));
      await close(b);
      const a = await openSession(connection, queue, "a");
      const first = await a.one();
      expect([first.message.body, count(first.message)], ["a1", 0]);
      first.delivery.modified({ delivery_failed: true });
      for (const wanted of [["a1", 1], ["a2", 0]]) {
        const { message, delivery } = await a.one();
        expect([message.body, count(message)], wanted, "body, count");
        delivery.accept();
      }
      await close(a);
      await refused("amqp:not-allowed", connection, { source: queue });
      const sender = await openSender(connection, queue);
      await fails("amqp:not-allowed", send(sender, { body: "of no session" }));
    }),

  "session-next": (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("session-next");
      const nothing = async () => {
        const started = Date.now();
        await refused("com.microsoft:timeout", connection, sessionOptions(queue));
        expect(Date.now() - started > 1500, true, "it was waited for a session");
      };
      await nothing();
      const messages = [{ group_id: "x", body: "x1" }, { group_id: "y", body: "y1" }];
      await sendAll(connection, queue, ...messages);
      const open = [];
      for (const wanted of ["x", "y"]) {
        const session = await openSession(connection, queue);
        expect(session.link.source.filter[SESSION], wanted, "session");
        open.push(session);
      }
      await nothing();
      const x = await open[0].one();
      expect(x.message.body, "x1");
      x.delivery.accept();
      const y = await open[1].one();
      expect(y.message.body, "y1");
      // Closed without settling.
      for (const session of open) await close(session);
      const again = await openSession(connection, queue);
      expect(again.link.source.filter[SESSION], "y", "session");
      const { message, delivery } = await again.one();
      expect([message.body, count(message)], ["y1", 0], "body, count");
      delivery.accept();
      await close(again);
      await nothing();
    }),

  schedule: (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("schedule");
      const due = Date.now() + 3000;
      const at = (ms) => ({ "x-opt-scheduled-enqueue-time": rhea.types.wrap_timestamp(ms) });
      await sendAll(
        connection,
        queue,
        { body: "later", message_annotations: at(due + 1000) },
        { body: "sooner", message_annotations: at(due) },
        { body: "at once", message_annotations: at(Date.now() - 1000) },
      );
      const receiver = await openReceiver(connection, queue, { credit: 10 });
      const now = await receiver.take();
      expect(now.message.body, "at once");
      now.delivery.accept();
      for (const wanted of ["sooner", "later"]) {
        const { message, delivery } = await receiver.take();
        expect(message.body, wanted);
        const enqueued = message.message_annotations["x-opt-enqueued-time"];
        expect(enqueued >= due, true, "enqueued when it was due");
        delivery.accept();
      }
      await close(receiver);
      await expectEmpty(connection, queue);
    }),

  // The queue remembers ids for a minute.
  duplicates: (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("duplicates");
      const sender = await openSender(connection, queue);
      for (const message_id of ["a", "b", "a"]) {
        await send(sender, { message_id, body: `${message_id} alone` });
      }
      const inner = ["b", "c", "c"].map((message_id) =>
        rhea.message.encode({ message_id, body: `${message_id} in a batch` }),
      );
      const envelope = rhea.message.encode({ body: rhea.message.data_sections(inner) });
      await send(sender, envelope, undefined, 0x80013700);
      const receiver = await openReceiver(connection, queue);
      for (const wanted of ["a alone", "b alone", "c in a batch"]) {
        const { message, delivery } = await receiver.one();
        expect(message.body, wanted);
        delivery.accept();
      }
      await send(sender, { message_id: "a", body: "after completion" });
      await expectEmpty(connection, queue);
    }),

  // Messages of the queue live for three seconds at most, and end in the dead-letter queue.
  "time-to-live": (broker) =>
    connected(broker, async (connection) => {
      const queue = broker.queue("time-to-live");
      await sendAll(connection, queue, { body: "short", ttl: 1000 }, { body: "long", ttl: 3_600_000 });
      await sendBodies(connection, queue, "unset");
      await sleep(4000);
      await expectEmpty(connection, queue);
      const dead = await openReceiver(connection, queue + DEAD, { credit: 3 });
      const bodies = [];
      for (let i = 0; i < 3; i += 1) {
        const { message, delivery } = await dead.take();
        const reason = message.application_properties.DeadLetterReason;
        expect(reason, "TTLExpiredException", "reason");
        bodies.push(message.body);
        delivery.accept();
      }
      expect(bodies.sort(), ["long", "short", "unset"], "dead letters");
      await close(dead);
      await expectEmpty(connection, queue + DEAD);
    }),
};
