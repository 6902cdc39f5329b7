"""The administration clients of the SDK for Python: the scenarios are written once, for asyncio.

They always speak https. A transport of ours, which is an option of theirs, takes the S away: TLS has
scenarios of its own.
"""

import base64
import datetime
import inspect
import secrets

from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusError
from azure.servicebus.aio.management import ServiceBusAdministrationClient as AsyncClient
from azure.servicebus.management import (
    AccessRights,
    ApiVersion,
    AuthorizationRule,
    CorrelationRuleFilter,
    FalseRuleFilter,
    ServiceBusAdministrationClient,
    SqlRuleAction,
    SqlRuleFilter,
    TrueRuleFilter,
)

from harness import KEY, expect

MINUTE = datetime.timedelta(minutes=1)
DAY = datetime.timedelta(days=1)
# More than a page.
MANY = 105


class PlainTransport(RequestsTransport):
    def send(self, request, **options):
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, **options)


class AsyncPlainTransport(AioHttpTransport):
    async def send(self, request, **options):
        request.url = request.url.replace("https://", "http://", 1)
        return await super().send(request, **options)


def blocking(broker, key=KEY, **options):
    return ServiceBusAdministrationClient.from_connection_string(
        broker.connection_string(key), transport=PlainTransport(), retry_total=0, **options
    )


def asynchronous(broker, key=KEY, **options):
    return AsyncClient.from_connection_string(
        broker.connection_string(key), transport=AsyncPlainTransport(), retry_total=0, **options
    )


class Admin:
    """A client of either kind, to be used like the one of asyncio."""

    def __init__(self, client):
        self.client = client

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        closed = self.client.close()
        if inspect.isawaitable(closed):
            await closed

    def __getattr__(self, name):
        member = getattr(self.client, name)

        async def call(*arguments, **options):
            result = member(*arguments, **options)
            if inspect.isawaitable(result):
                return await result
            if hasattr(result, "__aiter__"):
                return [item async for item in result]
            if name.startswith("list_"):
                return list(result)
            return result

        return call


async def fails(error, call):
    try:
        await call
    except error as raised:
        # One that is more special is another error.
        if type(raised) is error:
            return raised
        raise
    raise AssertionError(f"no {error.__name__}")


def same(found, **wanted):
    for name, value in wanted.items():
        expect(getattr(found, name), value, name)


def names(found):
    return [item.name for item in found]


def scenarios(open_client):
    """The scenarios for one kind of client."""

    def connect(broker, **options):
        return Admin(open_client(broker, **options))

    async def queues(broker):
        name, target = (f"0.{broker.client}.manage/{part}" for part in ("queue", "target"))
        async with connect(broker) as admin:
            for left in (name, target):
                try:
                    await admin.delete_queue(left)
                except ResourceNotFoundError:
                    pass
            await fails(ResourceNotFoundError, admin.get_queue(name))
            await fails(ResourceNotFoundError, admin.get_queue_runtime_properties(name))
            plain = await admin.create_queue(target)
            same(
                plain,
                name=target,
                max_size_in_megabytes=1024,
                max_delivery_count=10,
                lock_duration=MINUTE,
                requires_session=False,
                enable_batched_operations=True,
                status="Active",
                availability_status="Available",
                forward_to=None,
                user_metadata=None,
                max_message_size_in_kilobytes=1024,
            )
            expect(plain.default_message_time_to_live.days, 10675199)
            await fails(ResourceExistsError, admin.create_queue(target))
            created = {
                "lock_duration": datetime.timedelta(seconds=30),
                "max_size_in_megabytes": 2048,
                "requires_duplicate_detection": True,
                "duplicate_detection_history_time_window": 5 * MINUTE,
                "default_message_time_to_live": 14 * DAY,
                "dead_lettering_on_message_expiration": True,
                "max_delivery_count": 2147483647,
                "enable_batched_operations": False,
                "auto_delete_on_idle": 10 * MINUTE,
                "enable_partitioning": True,
                "enable_express": True,
                "user_metadata": "<mine> & 'yours' é",
                "max_message_size_in_kilobytes": 2048,
            }
            queue = await admin.create_queue(name, forward_to=target, **created)
            same(queue, name=name, **created)
            expect(queue.forward_to, f"sb://{broker.host}:{broker.port}/{target}")
            queue = await admin.get_queue(name)
            same(queue, name=name, **created)
            queue.max_delivery_count = 3
            queue.forward_to = None
            queue.forward_dead_lettered_messages_to = target
            await admin.update_queue(queue)
            queue = await admin.get_queue(name)
            same(queue, **{**created, "max_delivery_count": 3, "forward_to": None})
            expect(queue.forward_dead_lettered_messages_to.rsplit("/0.")[1], target[2:])
            # As it came, with spans that this client cannot hold.
            before = await admin.get_queue(target)
            await admin.update_queue(before)
            after = await admin.get_queue(target)
            same(after, auto_delete_on_idle=before.auto_delete_on_idle, lock_duration=MINUTE)
            queue.requires_session = True
            refused = await fails(HttpResponseError, admin.update_queue(queue))
            expect((refused.status_code, "RequiresSession" in refused.message), (400, True))
            wrong = admin.create_queue(f"{name}2", lock_duration=DAY)
            expect((await fails(HttpResponseError, wrong)).status_code, 400)
            # The service wants keys of 32 octets, and a right.
            rules = [AuthorizationRule(key_name="k", primary_key="p", secondary_key="s")]
            wrong = admin.create_queue(f"{name}2", authorization_rules=rules)
            expect((await fails(HttpResponseError, wrong)).status_code, 400)
            wrong = admin.create_queue(f"{name}2", forward_to="nowhere")
            expect((await fails(HttpResponseError, wrong)).status_code, 400)
            with ServiceBusClient.from_connection_string(broker.connection_string()) as client:
                with client.get_queue_sender(target) as sender:
                    sender.send_messages([ServiceBusMessage("a"), ServiceBusMessage("b")])
                    soon = datetime.datetime.now(datetime.timezone.utc) + DAY
                    sender.schedule_messages(ServiceBusMessage("c"), soon)
                with client.get_queue_receiver(target) as receiver:
                    (message,) = receiver.receive_messages(1)
                    receiver.dead_letter_message(message)
            found = await admin.get_queue_runtime_properties(target)
            same(
                found,
                name=target,
                active_message_count=1,
                dead_letter_message_count=1,
                scheduled_message_count=1,
                transfer_message_count=0,
                transfer_dead_letter_message_count=0,
                total_message_count=3,
            )
            expect(found.size_in_bytes > 0, True, "size")
            expect(found.accessed_at_utc >= found.created_at_utc, True, "accessed")
            listed = {queue.name: queue for queue in await admin.list_queues()}
            same(listed[name], lock_duration=created["lock_duration"])
            running = await admin.list_queues_runtime_properties()
            expect(name in names(running) and target in names(running), True)
            await admin.delete_queue(name)
            await fails(ResourceNotFoundError, admin.delete_queue(name))
            await fails(ResourceNotFoundError, admin.update_queue(queue))
            await admin.delete_queue(target)

    async def topics(broker):
        name = f"0.{broker.client}.manage/topic"
        async with connect(broker) as admin:
            try:
                await admin.delete_topic(name)
            except ResourceNotFoundError:
                pass
            await fails(ResourceNotFoundError, admin.get_topic(name))
            await fails(ResourceNotFoundError, admin.create_subscription(name, "s"))
            created = {
                "default_message_time_to_live": DAY,
                "max_size_in_megabytes": 3072,
                "requires_duplicate_detection": True,
                "duplicate_detection_history_time_window": 5 * MINUTE,
                "enable_batched_operations": True,
                "auto_delete_on_idle": 10 * MINUTE,
                "support_ordering": False,
                "enable_partitioning": True,
                "enable_express": True,
                "user_metadata": "mine",
            }
            same(await admin.create_topic(name, **created), name=name, **created)
            await fails(ResourceExistsError, admin.create_topic(name))
            await fails(ResourceExistsError, admin.create_queue(name))
            await fails(ResourceNotFoundError, admin.get_queue_runtime_properties(f"{name}2"))
            topic = await admin.get_topic(name)
            topic.status = "SendDisabled"
            await admin.update_topic(topic)
            topic = await admin.get_topic(name)
            same(topic, status="SendDisabled", **created)
            topic.status = "Active"
            await admin.update_topic(topic)
            created = {
                "lock_duration": datetime.timedelta(seconds=30),
                "requires_session": True,
                "default_message_time_to_live": DAY,
                "dead_lettering_on_message_expiration": True,
                "dead_lettering_on_filter_evaluation_exceptions": False,
                "max_delivery_count": 4,
                "enable_batched_operations": False,
                "auto_delete_on_idle": 10 * MINUTE,
                "user_metadata": "mine",
            }
            same(await admin.create_subscription(name, "with.all", **created), **created)
            subscription = await admin.get_subscription(name, "with.all")
            same(subscription, name="with.all", **created)
            subscription.max_delivery_count = 5
            await admin.update_subscription(name, subscription)
            changed = await admin.get_subscription(name, "with.all")
            same(changed, **{**created, "max_delivery_count": 5})
            await admin.create_subscription(name, "plain")
            await fails(ResourceExistsError, admin.create_subscription(name, "plain"))
            await fails(ResourceNotFoundError, admin.get_subscription(name, "none"))
            with ServiceBusClient.from_connection_string(broker.connection_string()) as client:
                with client.get_topic_sender(name) as sender:
                    sender.send_messages(ServiceBusMessage("a", session_id="s"))
            found = await admin.get_subscription_runtime_properties(name, "plain")
            same(found, name="plain", active_message_count=1, total_message_count=1)
            found = await admin.get_topic_runtime_properties(name)
            same(found, name=name, subscription_count=2, scheduled_message_count=0)
            expect(names(await admin.list_subscriptions(name)), ["plain", "with.all"])
            running = await admin.list_subscriptions_runtime_properties(name)
            expect(names(running), ["plain", "with.all"])
            expect(name in names(await admin.list_topics()), True, "listed")
            expect(name in names(await admin.list_topics_runtime_properties()), True, "listed")
            await admin.delete_subscription(name, "plain")
            await fails(ResourceNotFoundError, admin.delete_subscription(name, "plain"))
            for index in range(MANY):
                await admin.create_subscription(name, f"many-{index:03}")
            listed = names(await admin.list_subscriptions(name))
            expect(listed, [f"many-{index:03}" for index in range(MANY)] + ["with.all"])
            await admin.delete_topic(name)
            await fails(ResourceNotFoundError, admin.delete_topic(name))
            await fails(ResourceNotFoundError, admin.get_subscription(name, "with.all"))

    async def rules(broker):
        topic = f"0.{broker.client}.manage/rules"
        async with connect(broker) as admin:
            try:
                await admin.delete_topic(topic)
            except ResourceNotFoundError:
                pass
            await admin.create_topic(topic)
            await admin.create_subscription(topic, "s")

            async def get(name):
                return await admin.get_rule(topic, "s", name)

            default = await get("$Default")
            expect((type(default.filter), default.action), (TrueRuleFilter, None))
            values = {
                "text": "a & b",
                "int": 1,
                "long": 5_000_000_000,
                "float": 1.5,
                "flag": True,
                "when": datetime.datetime(2026, 1, 2, 3, 4, 5),
                "span": datetime.timedelta(days=1, seconds=5, milliseconds=500),
            }
            fields = {
                "correlation_id": "c",
                "message_id": "m",
                "to": "t",
                "reply_to": "r",
                "label": "l",
                "session_id": "s",
                "reply_to_session_id": "rs",
                "content_type": "ct",
            }
            correlation = CorrelationRuleFilter(properties=values, **fields)
            await admin.create_rule(topic, "s", "correlation", filter=correlation)
            found = (await get("correlation")).filter
            same(found, **fields)
            when = found.properties.pop("when").replace(tzinfo=None)
            expect(when, values["when"])
            rest = {key: value for key, value in values.items() if key != "when"}
            expect(dict(found.properties), rest, "properties")
            sql = SqlRuleFilter("a < @b AND c = 'd'", parameters={"@b": 5})
            action = SqlRuleAction("SET a = @x", parameters={"@x": "y"})
            await admin.create_rule(topic, "s", "sql", filter=sql, action=action)
            found = await get("sql")
            same(found.filter, sql_expression="a < @b AND c = 'd'", parameters={"@b": 5})
            same(found.action, sql_expression="SET a = @x", parameters={"@x": "y"})
            await admin.create_rule(topic, "s", "never", filter=FalseRuleFilter())
            expect(type((await get("never")).filter), FalseRuleFilter)
            await fails(ResourceExistsError, admin.create_rule(topic, "s", "sql"))
            found.filter = SqlRuleFilter("a = 1")
            await admin.update_rule(topic, "s", found)
            found = await get("sql")
            same(found.filter, sql_expression="a = 1")
            same(found.action, sql_expression="SET a = @x", parameters={"@x": "y"})
            wrong = admin.create_rule(topic, "s", "wrong", filter=SqlRuleFilter("a ="))
            expect((await fails(HttpResponseError, wrong)).status_code, 400)
            listed = await admin.list_rules(topic, "s")
            expect(names(listed), ["$Default", "correlation", "never", "sql"])
            await admin.delete_rule(topic, "s", "$Default")
            await fails(ResourceNotFoundError, admin.delete_rule(topic, "s", "$Default"))
            await fails(ResourceNotFoundError, get("$Default"))
            await admin.delete_topic(topic)
        async with connect(broker, api_version=ApiVersion.V2017_04) as admin:
            await fails(ResourceNotFoundError, admin.get_rule(topic, "s", "sql"))

    async def access(broker):
        queue, topic, other = (f"{broker.client}.access-{part}" for part in ("q", "t", "other"))
        new_key = lambda: base64.b64encode(secrets.token_bytes(32)).decode()
        first, second, third = new_key(), new_key(), new_key()
        rule = lambda name, rights, primary, secondary: AuthorizationRule(
            type="SharedAccessAuthorizationRule",
            claim_type="SharedAccessKey",
            claim_value="None",
            key_name=name,
            primary_key=primary,
            secondary_key=secondary,
            rights=rights,
        )
        manage = [AccessRights.MANAGE, AccessRights.SEND, AccessRights.LISTEN]
        both = [AccessRights.SEND, AccessRights.LISTEN]

        def exchange(entity, key):
            text = broker.connection_string(key, rule="own")
            with ServiceBusClient.from_connection_string(text, retry_total=0) as client:
                with client.get_queue_sender(entity) as sender:
                    sender.send_messages(ServiceBusMessage("x"))
                with client.get_queue_receiver(entity, max_wait_time=5) as receiver:
                    (message,) = receiver.receive_messages(1)
                    receiver.complete_message(message)

        def refused(entity, key):
            try:
                exchange(entity, key)
            except ServiceBusError:
                return
            raise AssertionError("the key is good")

        async with connect(broker) as admin:
            for name in (queue, other):
                try:
                    await admin.delete_queue(name)
                except ResourceNotFoundError:
                    pass
            try:
                await admin.delete_topic(topic)
            except ResourceNotFoundError:
                pass
            await admin.create_queue(other)
            rules = [rule("own", both, first, second), rule("all", manage, third, third)]
            await admin.create_queue(queue, authorization_rules=rules)
            await admin.create_topic(topic, authorization_rules=rules)
            for found in (await admin.get_queue(queue), await admin.get_topic(topic)):
                own, everything = found.authorization_rules
                same(
                    own,
                    type="SharedAccessAuthorizationRule",
                    claim_type="SharedAccessKey",
                    claim_value="None",
                    key_name="own",
                    primary_key=first,
                    secondary_key=second,
                    rights=["Send", "Listen"],
                )
                same(everything, key_name="all", rights=["Manage", "Send", "Listen"])
                expect(own.created_at_utc, own.modified_at_utc, "times")
            for key in (first, second):
                exchange(queue, key)
                refused(other, key)
            refused(queue, third)
            found = await admin.get_queue(queue)
            found.authorization_rules = [rule("own", both, second, third)]
            await admin.update_queue(found)
            (own,) = (await admin.get_queue(queue)).authorization_rules
            same(own, primary_key=second, secondary_key=third)
            refused(queue, first)
            exchange(queue, third)
            # What an update repeats stays, and what it empties goes.
            await admin.update_queue(await admin.get_queue(queue))
            exchange(queue, third)
            found = await admin.get_queue(queue)
            found.authorization_rules = []
            await admin.update_queue(found)
            expect(not (await admin.get_queue(queue)).authorization_rules, True, "no rules")
            refused(queue, third)
            for name in (queue, other):
                await admin.delete_queue(name)
            await admin.delete_topic(topic)

    async def namespace(broker):
        async with connect(broker) as admin:
            found = await admin.get_namespace_properties()
            same(found, messaging_sku="Premium", messaging_units=1, name=broker.host.split(".")[0])
        async with connect(broker, key="wrong") as admin:
            await fails(ClientAuthenticationError, admin.get_namespace_properties())
            await fails(ClientAuthenticationError, admin.create_queue("unwanted"))

    return {
        "manage-queues": queues,
        "manage-topics": topics,
        "manage-rules": rules,
        "manage-access": access,
        "manage-namespace": namespace,
    }
