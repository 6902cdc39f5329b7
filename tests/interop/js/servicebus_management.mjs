// The administration client of @azure/service-bus. It always speaks https; a policy of ours, added to
// its pipeline as the last one, takes the S away: TLS has scenarios of its own.

import { randomBytes } from "node:crypto";

import { ServiceBusAdministrationClient, ServiceBusClient } from "@azure/service-bus";

import { expect, KEY, RULE } from "./harness.mjs";
import { withId } from "./servicebus_client.mjs";

// More than a page.
const MANY = 105;

function connectionString(broker, key = KEY, rule = RULE) {
  return (
    `Endpoint=sb://${broker.host}:${broker.port};SharedAccessKeyName=${rule};` +
    `SharedAccessKey=${key};UseDevelopmentEmulator=true;`
  );
}

function administration(broker, key) {
  const client = new ServiceBusAdministrationClient(connectionString(broker, key), {
    retryOptions: { maxRetries: 0 },
  });
  client.pipeline.addPolicy(
    {
      name: "plain",
      sendRequest(request, next) {
        request.url = request.url.replace("https://", "http://");
        request.allowInsecureConnection = true;
        return next(request);
      },
    },
    { afterPolicies: ["signingPolicy"] },
  );
  return client;
}

async function refusal(call) {
  try {
    await call;
  } catch (error) {
    return error;
  }
  throw new Error("not refused");
}

async function fails(code, call) {
  const error = await refusal(call);
  expect(error.code, code, `code of ${error.message}`);
}

/** Everything that is wanted is there; there may be more. */
function same(found, wanted) {
  for (const [name, value] of Object.entries(wanted)) expect(found[name], value, name);
}

async function names(list, key) {
  const found = [];
  for await (const item of list) found.push(item[key]);
  return found;
}

async function queues(broker) {
  const admin = administration(broker);
  const [name, target] = ["queue", "target"].map((part) => `0.${broker.queue("manage")}/${part}`);
  for (const left of [name, target]) if (await admin.queueExists(left)) await admin.deleteQueue(left);
  await fails("MessageEntityNotFoundError", admin.getQueue(name));
  await fails("MessageEntityNotFoundError", admin.getQueueRuntimeProperties(name));
  same(await admin.createQueue(target), {
    name: target,
    maxSizeInMegabytes: 1024,
    maxDeliveryCount: 10,
    lockDuration: "PT1M",
    defaultMessageTimeToLive: "P10675199DT2H48M5.4775807S",
    status: "Active",
    availabilityStatus: "Available",
  });
  await fails("MessageEntityAlreadyExistsError", admin.createQueue(target));
  const wanted = {
    lockDuration: "PT30S",
    maxSizeInMegabytes: 2048,
    requiresDuplicateDetection: true,
    duplicateDetectionHistoryTimeWindow: "PT5M",
    defaultMessageTimeToLive: "P14D",
    deadLetteringOnMessageExpiration: true,
    maxDeliveryCount: 2147483647,
    enableBatchedOperations: false,
    autoDeleteOnIdle: "PT10M",
    enablePartitioning: true,
    enableExpress: true,
    userMetadata: "<mine> & 'yours' é",
  };
  const address = `sb://${broker.host}:${broker.port}/${target}`;
  const created = await admin.createQueue(name, { ...wanted, forwardTo: target });
  same(created, { name, ...wanted, forwardTo: address });
  const queue = await admin.getQueue(name);
  same(queue, { name, ...wanted });
  delete queue.forwardTo;
  queue.maxDeliveryCount = 3;
  queue.forwardDeadLetteredMessagesTo = target;
  await admin.updateQueue(queue);
  const changed = { ...wanted, maxDeliveryCount: 3, forwardDeadLetteredMessagesTo: address };
  same(await admin.getQueue(name), changed);
  expect((await admin.getQueue(name)).forwardTo === undefined, true, "no forwarding");
  const refused = await refusal(admin.updateQueue({ ...queue, requiresSession: true }));
  expect([refused.statusCode, refused.message.includes("RequiresSession")], [400, true]);
  const client = new ServiceBusClient(connectionString(broker));
  try {
    const sender = client.createSender(target);
    await sender.sendMessages(["a", "b"].map(withId));
    await sender.scheduleMessages(withId("c"), new Date(Date.now() + 86_400_000));
    const receiver = client.createReceiver(target);
    const [message] = await receiver.receiveMessages(1);
    await receiver.deadLetterMessage(message);
  } finally {
    await client.close();
  }
  same(await admin.getQueueRuntimeProperties(target), {
    name: target,
    activeMessageCount: 1,
    deadLetterMessageCount: 1,
    scheduledMessageCount: 1,
    transferMessageCount: 0,
    transferDeadLetterMessageCount: 0,
    totalMessageCount: 3,
  });
  const listed = await names(admin.listQueues(), "name");
  expect([name, target].every((own) => listed.includes(own)), true, "listed");
  const running = await names(admin.listQueuesRuntimeProperties(), "name");
  expect([name, target].every((own) => running.includes(own)), true, "listed");
  await admin.deleteQueue(name);
  expect(await admin.queueExists(name), false, "exists");
  await fails("MessageEntityNotFoundError", admin.deleteQueue(name));
  await fails("MessageEntityNotFoundError", admin.updateQueue(queue));
  await admin.deleteQueue(target);
}

async function topics(broker) {
  const admin = administration(broker);
  const name = `0.${broker.queue("manage")}/topic`;
  if (await admin.topicExists(name)) await admin.deleteTopic(name);
  await fails("MessageEntityNotFoundError", admin.getTopic(name));
  await fails("MessageEntityNotFoundError", admin.createSubscription(name, "s"));
  const ofTopic = {
    defaultMessageTimeToLive: "P1D",
    maxSizeInMegabytes: 3072,
    requiresDuplicateDetection: true,
    duplicateDetectionHistoryTimeWindow: "PT5M",
    enableBatchedOperations: true,
    autoDeleteOnIdle: "PT10M",
    supportOrdering: false,
    enablePartitioning: true,
    enableExpress: true,
    userMetadata: "mine",
  };
  same(await admin.createTopic(name, ofTopic), { name, ...ofTopic });
  await fails("MessageEntityAlreadyExistsError", admin.createTopic(name));
  await fails("MessageEntityAlreadyExistsError", admin.createQueue(name));
  const topic = await admin.getTopic(name);
  await admin.updateTopic({ ...topic, userMetadata: "yours" });
  same(await admin.getTopic(name), { ...ofTopic, userMetadata: "yours" });
  const ofSubscription = {
    lockDuration: "PT30S",
    requiresSession: true,
    defaultMessageTimeToLive: "P1D",
    deadLetteringOnMessageExpiration: true,
    deadLetteringOnFilterEvaluationExceptions: false,
    maxDeliveryCount: 4,
    enableBatchedOperations: false,
    autoDeleteOnIdle: "PT10M",
    userMetadata: "mine",
  };
  same(await admin.createSubscription(name, "with.all", ofSubscription), ofSubscription);
  const subscription = await admin.getSubscription(name, "with.all");
  same(subscription, { topicName: name, subscriptionName: "with.all", ...ofSubscription });
  await admin.updateSubscription({ ...subscription, maxDeliveryCount: 5 });
  same(await admin.getSubscription(name, "with.all"), { ...ofSubscription, maxDeliveryCount: 5 });
  const rule = { name: "mine", filter: { sqlExpression: "a = 1" } };
  await admin.createSubscription(name, "plain", { defaultRuleOptions: rule });
  expect(await names(admin.listRules(name, "plain"), "name"), ["mine"]);
  await admin.deleteRule(name, "plain", "mine");
  await fails("MessageEntityAlreadyExistsError", admin.createSubscription(name, "plain"));
  await fails("MessageEntityNotFoundError", admin.getSubscription(name, "none"));
  expect(await admin.subscriptionExists(name, "plain"), true, "exists");
  same(await admin.getSubscriptionRuntimeProperties(name, "plain"), {
    subscriptionName: "plain",
    activeMessageCount: 0,
    totalMessageCount: 0,
  });
  same(await admin.getTopicRuntimeProperties(name), { name, subscriptionCount: 2 });
  const below = await names(admin.listSubscriptions(name), "subscriptionName");
  expect(below, ["plain", "with.all"]);
  const running = admin.listSubscriptionsRuntimeProperties(name);
  expect(await names(running, "subscriptionName"), ["plain", "with.all"]);
  expect((await names(admin.listTopics(), "name")).includes(name), true, "listed");
  const topicsRunning = await names(admin.listTopicsRuntimeProperties(), "name");
  expect(topicsRunning.includes(name), true, "listed");
  await admin.deleteSubscription(name, "plain");
  await fails("MessageEntityNotFoundError", admin.deleteSubscription(name, "plain"));
  const many = Array.from({ length: MANY }, (_, i) => `many-${String(i).padStart(3, "0")}`);
  for (const own of many) await admin.createSubscription(name, own);
  expect(await names(admin.listSubscriptions(name), "subscriptionName"), [...many, "with.all"]);
  let pages = 0;
  for await (const page of admin.listSubscriptions(name).byPage({ maxPageSize: 50 })) {
    pages += 1;
    expect(page.length <= 50, true, "size of a page");
  }
  expect(pages, 3, "pages");
  await admin.deleteTopic(name);
  await fails("MessageEntityNotFoundError", admin.deleteTopic(name));
}

async function rules(broker) {
  const admin = administration(broker);
  const topic = `0.${broker.queue("manage")}/rules`;
  if (await admin.topicExists(topic)) await admin.deleteTopic(topic);
  await admin.createTopic(topic);
  await admin.createSubscription(topic, "s");
  expect((await admin.getRule(topic, "s", "$Default")).filter.sqlExpression, "1=1", "default");
  const fields = {
    correlationId: "c",
    subject: "l",
    to: "t",
    replyTo: "r",
    replyToSessionId: "rs",
    contentType: "ct",
    sessionId: "s",
    messageId: "m",
  };
  const when = new Date("2026-01-02T03:04:05Z");
  const properties = { text: "a & b", number: 1, fraction: 1.5, flag: true, when };
  await admin.createRule(topic, "s", "all", { ...fields, applicationProperties: properties });
  const all = (await admin.getRule(topic, "s", "all")).filter;
  same(all, fields);
  expect(all.applicationProperties, properties, "properties");
  const parameters = { "@b": 5 };
  const filter = { sqlExpression: "a < @b AND c = 'd'", sqlParameters: parameters };
  const action = { sqlExpression: "SET a = @x", sqlParameters: { "@x": "y" } };
  await admin.createRule(topic, "s", "sql", filter, action);
  const found = await admin.getRule(topic, "s", "sql");
  same(found.filter, filter);
  same(found.action, action);
  await fails("MessageEntityAlreadyExistsError", admin.createRule(topic, "s", "sql", filter));
  await admin.updateRule(topic, "s", { ...found, filter: { applicationProperties: { a: 1 } } });
  expect((await admin.getRule(topic, "s", "sql")).filter.applicationProperties, { a: 1 });
  expect(await admin.ruleExists(topic, "s", "sql"), true, "exists");
  await admin.deleteRule(topic, "s", "$Default");
  await admin.deleteRule(topic, "s", "all");
  await fails("MessageEntityNotFoundError", admin.deleteRule(topic, "s", "all"));
  await fails("MessageEntityNotFoundError", admin.getRule(topic, "s", "all"));
  expect(await names(admin.listRules(topic, "s"), "name"), ["sql"]);
  const client = new ServiceBusClient(connectionString(broker));
  try {
    // The number is a double in the rule, and an integer in the message.
    const sender = client.createSender(topic);
    await sender.sendMessages({ body: "one", applicationProperties: { a: 1 } });
    await sender.sendMessages({ body: "two", applicationProperties: { a: 2 } });
    const receiver = client.createReceiver(topic, "s", { receiveMode: "receiveAndDelete" });
    const [message] = await receiver.receiveMessages(1);
    expect([message.body, message.applicationProperties.a], ["one", "y"]);
  } finally {
    await client.close();
  }
  same(await admin.getSubscriptionRuntimeProperties(topic, "s"), { totalMessageCount: 0 });
  await admin.deleteTopic(topic);
}

async function access(broker) {
  const admin = administration(broker);
  const name = broker.queue("access-q");
  if (await admin.queueExists(name)) await admin.deleteQueue(name);
  const [first, second, third] = [1, 2, 3].map(() => randomBytes(32).toString("base64"));
  const own = {
    claimType: "SharedAccessKey",
    accessRights: ["Send", "Listen"],
    keyName: "own",
    primaryKey: first,
    secondaryKey: second,
  };
  await admin.createQueue(name, { authorizationRules: [own] });
  const found = await admin.getQueue(name);
  expect(found.authorizationRules.length, 1, "rules");
  same(found.authorizationRules[0], { ...own, accessRights: own.accessRights });
  const exchange = async (key) => {
    const client = new ServiceBusClient(connectionString(broker, key, "own"), {
      retryOptions: { maxRetries: 0 },
    });
    try {
      await client.createSender(name).sendMessages({ body: "x" });
      const receiver = client.createReceiver(name, { receiveMode: "receiveAndDelete" });
      expect((await receiver.receiveMessages(1)).length, 1, "messages");
    } finally {
      await client.close();
    }
  };
  for (const key of [first, second]) await exchange(key);
  found.authorizationRules = [{ ...own, primaryKey: second, secondaryKey: third }];
  await admin.updateQueue(found);
  await fails("UnauthorizedAccess", exchange(first));
  await exchange(third);
  await admin.deleteQueue(name);
}

async function namespace(broker) {
  const found = await administration(broker).getNamespaceProperties();
  const name = /^[\d.]+$/.test(broker.host) ? broker.host : broker.host.split(".")[0];
  same(found, { name, messagingSku: "Premium", messagingUnits: 1 });
  const stranger = administration(broker, "wrong");
  await fails("UnauthorizedRequestError", stranger.getNamespaceProperties());
  await fails("UnauthorizedRequestError", stranger.createQueue("unwanted"));
}

export const management = {
  "manage-queues": queues,
  "manage-topics": topics,
  "manage-rules": rules,
  "manage-access": access,
  "manage-namespace": namespace,
};
