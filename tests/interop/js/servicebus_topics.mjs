// @azure/service-bus with topics: publishing, subscriptions and their rules.

import { EMPTY_MS, expect } from "./harness.mjs";
import { connected, fails, receive, withId } from "./servicebus_client.mjs";

const DEAD = { subQueueType: "deadLetter" };

async function publish(client, topic, ...messages) {
  const sender = client.createSender(topic);
  for (const message of messages) await sender.sendMessages(message);
  await sender.close();
}

const publishTexts = (client, topic, ...texts) => publish(client, topic, ...texts.map(withId));

const sized = (text, size, subject) => ({
  ...withId(text),
  subject,
  applicationProperties: { size },
});

const bodies = (messages) => messages.map((message) => message.body);

async function completeAll(receiver, count) {
  const messages = await receive(receiver, count);
  for (const message of messages) await receiver.completeMessage(message);
  return messages;
}

/** What a receiver finds, which has to be that many messages and no more. It is closed then. */
async function takenBy(receiver, count) {
  const messages = await completeAll(receiver, count);
  const rest = await receiver.receiveMessages(1, { maxWaitTimeInMs: EMPTY_MS });
  expect(bodies(rest), [], "messages left");
  await receiver.close();
  return messages;
}

const taken = (client, topic, name, count, options) =>
  takenBy(client.createReceiver(topic, name, options), count);

/** Rules as [name, what the filter is made of, the action]. */
async function listed(manager) {
  const rules = [];
  for await (const { name, filter, action } of manager.listRules()) {
    rules.push([name, filter.sqlExpression ?? filter, action?.sqlExpression ?? null]);
  }
  return rules;
}

async function replaceDefaultRule(manager) {
  expect(await listed(manager), [["$Default", "1=1", null]], "the rules of a new subscription");
  await manager.deleteRule("$Default");
  await fails("MessagingEntityNotFound", manager.deleteRule("$Default"));
  await manager.createRule("big", { sqlExpression: "size > 5 AND urgent IS NULL" });
  const second = manager.createRule("BIG", { sqlExpression: "size > 6" });
  await fails("MessagingEntityAlreadyExists", second);
  const wrong = manager.createRule("wrong", { sqlExpression: "size >" });
  const { message } = await fails("GeneralError", wrong);
  expect(message.includes("at character 7"), true, `the place in ${message}`);
  const typed = { subject: "red", applicationProperties: { size: 8, urgent: true } };
  await manager.createRule("typed", typed);
  const action = "SET sys.Label = 'acted'";
  await manager.createRule("zero", { sqlExpression: "size = 0" }, { sqlExpression: action });
  const [big, correlation, zero] = await listed(manager);
  expect(big, ["big", "size > 5 AND urgent IS NULL", null], "a rule");
  expect([correlation[0], correlation[1].subject], ["typed", "red"], "name, subject");
  expect(correlation[1].applicationProperties, typed.applicationProperties, "properties");
  expect(zero, ["zero", "size = 0", action], "a rule with an action");
}

/** A scenario of the topic that is called as it is. */
const topicScenario = (name, body) => (broker) =>
  connected(broker, (client) => body(client, broker.queue(name)), { retries: 0 });

const scenarios = {
  publish: async (client, topic) => {
    await publishTexts(client, topic, "1");
    const sender = client.createSender(topic);
    const batch = await sender.createMessageBatch();
    for (const text of ["2", "3"]) expect(batch.tryAddMessage(withId(text)), true, "added");
    await sender.sendMessages(batch);
    for (const name of ["a", "b"]) {
      expect(bodies(await taken(client, topic, name, 3)), ["1", "2", "3"], `bodies of ${name}`);
    }
    for (const missing of [client.createReceiver(topic), client.createReceiver(topic, "none")]) {
      const call = missing.receiveMessages(1, { maxWaitTimeInMs: 2000 });
      await fails("MessagingEntityNotFound", call);
    }
  },

  "publish-scheduled": async (client, topic) => {
    const due = new Date(Date.now() + 3000);
    const sender = client.createSender(topic);
    const numbers = await sender.scheduleMessages(["first", "cancelled"].map(withId), due);
    await sender.sendMessages({ ...withId("second"), scheduledEnqueueTimeUtc: due });
    await sender.sendMessages(withId("at once"));
    await sender.cancelScheduledMessages(numbers[1]);
    await fails("MessageNotFound", sender.cancelScheduledMessages(numbers[1]));
    const receiver = client.createReceiver(topic, "a");
    expect(bodies(await receiver.peekMessages(10)), ["at once"], "messages that are not due");
    expect(bodies(await completeAll(receiver, 1)), ["at once"], "body");
    const messages = await takenBy(receiver, 2);
    expect(bodies(messages), ["first", "second"], "bodies");
    expect(messages.every((m) => m.enqueuedTimeUtc >= due), true, "enqueued when due");
  },

  filters: async (client, topic) => {
    const messages = [sized("one", 1, "red"), sized("seven", 7, "blue"), sized("eight", 8, "red")];
    await publish(client, topic, ...messages, withId("none"));
    for (const [name, wanted] of [
      ["everything", ["one", "seven", "eight", "none"]],
      ["nothing", []],
      ["sql", ["seven"]],
      ["missing", ["none"]],
      ["correlation", ["one", "eight"]],
      ["typed", ["seven"]],
    ]) {
      const found = await taken(client, topic, name, wanted.length);
      expect(bodies(found), wanted, `bodies of ${name}`);
    }
  },

  actions: async (client, topic) => {
    await publish(client, topic, sized("small", 1, "red"), sized("big", 7, "blue"));
    const copies = await taken(client, topic, "a", 2);
    const seen = copies.map((copy) => [copy.body, copy.subject, copy.applicationProperties]);
    seen.sort((one, other) => (one[1] < other[1] ? -1 : 1));
    const doubled = { size: 14, RuleName: "double" };
    expect(seen, [["big", "blue", { size: 7 }], ["big", "doubled", doubled]], "copies");
  },

  rules: async (client, topic) => {
    const manager = client.createRuleManager(topic, "a");
    await replaceDefaultRule(manager);
    const urgent = sized("urgent", 8, "red");
    urgent.applicationProperties.urgent = true;
    await publish(client, topic, urgent, sized("small", 3, "red"), sized("zero", 0, "red"));
    const found = await taken(client, topic, "a", 2);
    expect(found.map((m) => [m.body, m.subject]), [["urgent", "red"], ["zero", "acted"]], "copies");
    for (const [name] of await listed(manager)) await manager.deleteRule(name);
    await publishTexts(client, topic, "to nobody");
    await taken(client, topic, "a", 0);
    await manager.createRule("all", { sqlExpression: "1=1" });
    await publishTexts(client, topic, "again");
    expect(bodies(await taken(client, topic, "a", 1)), ["again"], "bodies");
  },

  "subscription-peek": async (client, topic) => {
    await publishTexts(client, topic, "1", "2", "3");
    const receiver = client.createReceiver(topic, "a");
    const [locked] = await receive(receiver, 1);
    const seen = await receiver.peekMessages(10);
    expect(seen.map((m) => [m.body, m.state]), ["1", "2", "3"].map((b) => [b, "active"]), "peeked");
    await receiver.renewMessageLock(locked);
    await receiver.completeMessage(locked);
    expect(bodies(await takenBy(receiver, 2)), ["2", "3"], "bodies");
  },

  "subscription-delete": async (client, topic) => {
    await publishTexts(client, topic, "1", "2", "3");
    const receiver = client.createReceiver(topic, "a", { receiveMode: "receiveAndDelete" });
    expect(bodies(await receive(receiver, 3)), ["1", "2", "3"], "bodies");
    await receiver.close();
    await taken(client, topic, "a", 0);
  },

  // The subscription allows two deliveries.
  "subscription-dead-letter": async (client, topic) => {
    await publishTexts(client, topic, "bad", "poison", "good");
    const receiver = client.createReceiver(topic, "a");
    const [bad] = await receive(receiver, 1);
    const why = { deadLetterReason: "unreadable", deadLetterErrorDescription: "it made no sense" };
    await receiver.deadLetterMessage(bad, why);
    for (const count of [0, 1]) {
      const [poison] = await receive(receiver, 1);
      expect([poison.body, poison.deliveryCount], ["poison", count], "body, count");
      await receiver.abandonMessage(poison);
    }
    expect(bodies(await takenBy(receiver, 1)), ["good"], "bodies");
    const dead = await taken(client, topic, "a", 2, DEAD);
    const seen = dead.map((m) => [m.body, m.deadLetterReason]);
    expect(seen, [["bad", "unreadable"], ["poison", "MaxDeliveryCountExceeded"]], "dead letters");
    expect(dead[0].deadLetterErrorDescription, "it made no sense", "description");
    await taken(client, topic, "b", 3);
  },

  "subscription-sessions": async (client, topic) => {
    const pairs = [["x", "x1"], ["y", "y1"], ["x", "x2"]];
    const messages = pairs.map(([sessionId, text]) => ({ ...withId(text), sessionId }));
    await publish(client, topic, ...messages);
    const x = await client.acceptSession(topic, "a", "x");
    expect(bodies(await completeAll(x, 2)), ["x1", "x2"], "bodies");
    await x.setSessionState("half done");
    await x.renewSessionLock();
    expect(await x.getSessionState(), "half done", "state");
    await x.close();
    const next = await client.acceptNextSession(topic, "a");
    expect([next.sessionId, ...bodies(await completeAll(next, 1))], ["y", "y1"], "session, body");
    await next.close();
  },

  // One subscription forwards to a queue, the other to a topic that takes what is big.
  "subscription-forward": async (client, topic) => {
    await publish(client, topic, sized("small", 1, "red"), sized("big", 7, "blue"));
    const queue = client.createReceiver(`${topic}.queue`);
    expect(bodies(await takenBy(queue, 2)), ["small", "big"], "bodies");
    const end = await taken(client, `${topic}.topic`, "end", 1);
    expect(bodies(end), ["big"], "bodies behind the other topic");
  },
};

export const topics = Object.fromEntries(
  Object.entries(scenarios).map(([name, body]) => [name, topicScenario(name, body)]),
);
