"""Makes the queues, topics, subscriptions and rules of one namespace in another.

    pip install azure-servicebus
    export SOURCE='Endpoint=sb://…'     # a rule with Manage of the namespace that there is
    export TARGET='Endpoint=sb://…'     # a rule with Manage of the one that is to be like it
    python copy_topology.py             # copies; may be run again
    python copy_topology.py --check     # changes nothing, says what differs and how many messages there are

What is there already gets the settings of the source. Nothing is deleted but rules of subscriptions that
the source does not have. Access rules of queues and topics are copied with their keys; those of the
namespace no program can read, they belong in the target's configuration.

A connection string with UseDevelopmentEmulator=true is used without TLS, others with it. --ca names the
authority that the target's certificate is from, if this machine does not know it.
"""

import argparse
import os
import sys
import urllib.parse

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.servicebus.management import ServiceBusAdministrationClient

# What is set when an entity is made. What follows from other settings, or is read only, is not here.
COMMON = ("auto_delete_on_idle", "default_message_time_to_live", "enable_batched_operations", "user_metadata")
SIZED = (
    "authorization_rules",
    "duplicate_detection_history_time_window",
    "enable_express",
    "enable_partitioning",
    "max_message_size_in_kilobytes",
    "max_size_in_megabytes",
    "requires_duplicate_detection",
)
RECEIVED = ("dead_lettering_on_message_expiration", "lock_duration", "max_delivery_count", "requires_session")
QUEUE = COMMON + SIZED + RECEIVED
TOPIC = COMMON + SIZED + ("filtering_messages_before_publishing", "support_ordering")
SUBSCRIPTION = COMMON + RECEIVED + ("dead_lettering_on_filter_evaluation_exceptions",)
# What names other entities, which may not be there yet, or keeps a client from filling the entity.
LATER = ("forward_to", "forward_dead_lettered_messages_to", "status")
# Standard namespaces of Azure say 256; the target takes a MiB.
MESSAGE_KIB_MIN = 1024


class Plain(RequestsTransport):
    """The administration client asks for https only; without TLS it is the same port and http."""

    def send(self, request, **options):
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, **options)


def connect(variable, authority=None):
    text = os.environ.get(variable) or sys.exit(f"{variable} has no connection string")
    options = {"connection_verify": authority} if authority else {}
    if "usedevelopmentemulator=true" in text.lower().replace(" ", ""):
        options = {"transport": Plain()}
    return ServiceBusAdministrationClient.from_connection_string(text, **options)


def name_of(entity):
    """A service shows the target of forwarding as an address; the path in it is the entity."""
    return urllib.parse.urlparse(entity).path.strip("/") if entity and "://" in entity else entity


def settings(entity, names):
    found = {name: getattr(entity, name, None) for name in names + LATER}
    for name in ("forward_to", "forward_dead_lettered_messages_to"):
        found[name] = name_of(found[name])
    if (found.get("max_message_size_in_kilobytes") or MESSAGE_KIB_MIN) < MESSAGE_KIB_MIN:
        found["max_message_size_in_kilobytes"] = None
    return {name: value for name, value in found.items() if value is not None}


class Entities:
    """The entities of a namespace by their names: settings, and how to get at them."""

    def __init__(self, admin):
        self.admin = admin
        self.all, self.rules, self.left_out = {}, {}, []
        for queue in admin.list_queues():
            self.all[queue.name,] = settings(queue, QUEUE)
        self.queues = set(self.all)
        for topic in admin.list_topics():
            self.all[topic.name,] = settings(topic, TOPIC)
            for subscription in admin.list_subscriptions(topic.name):
                key = topic.name, subscription.name
                if "$" in subscription.name:
                    # A JMS client has made it, and will make it again.
                    self.left_out.append(key)
                    continue
                self.all[key] = settings(subscription, SUBSCRIPTION)
                self.rules[key] = {rule.name: rule for rule in admin.list_rules(*key)}

    def messages(self, key):
        if len(key) == 2:
            counts = self.admin.get_subscription_runtime_properties(*key)
        elif key in self.queues:
            counts = self.admin.get_queue_runtime_properties(*key)
        else:
            return f"scheduled {self.admin.get_topic_runtime_properties(*key).scheduled_message_count}"
        scheduled = getattr(counts, "scheduled_message_count", 0) or 0
        return (f"active {counts.active_message_count}, scheduled {scheduled}, "
                f"dead {counts.dead_letter_message_count}")


def kind(entities, key):
    return "subscription" if len(key) == 2 else "queue" if key in entities.queues else "topic"


def make(target, entities, key):
    """The entity with all settings that name no other; nothing if it is there."""
    which = kind(entities, key)
    try:
        getattr(target, f"get_{which}")(*key)
        return "there already"
    except ResourceNotFoundError:
        first = {name: value for name, value in entities.all[key].items() if name not in LATER}
        getattr(target, f"create_{which}")(*key, **first)
        return "made"


def finish(target, entities, key):
    """All settings, and the rules if it is a subscription."""
    which = kind(entities, key)
    there = getattr(target, f"get_{which}")(*key)
    for name, value in entities.all[key].items():
        setattr(there, name, value)
    getattr(target, f"update_{which}")(*key[:-1], there)
    if which != "subscription":
        return
    old = {rule.name: rule for rule in target.list_rules(*key)}
    new = entities.rules[key]
    for name, rule in new.items():
        if name in old and shown(old[name]) == shown(rule):
            continue
        if name in old:
            target.delete_rule(*key, name)
        target.create_rule(*key, name, filter=rule.filter, action=rule.action)
    for name in set(old) - set(new):
        target.delete_rule(*key, name)


def shown(value):
    """Settings, rules and access rules as text that is alike if they are: not when they were made."""
    if isinstance(value, (list, tuple)):
        return sorted(map(shown, value))
    if not hasattr(value, "__dict__"):
        return repr(value)
    kept = {k: v for k, v in vars(value).items() if not k.startswith("_") and not k.endswith("_at_utc")}
    return type(value).__name__ + repr({k: shown(v) for k, v in sorted(kept.items())})


def check(source, target):
    differences = 0
    for key in sorted(source.all):
        path = "/Subscriptions/".join(key)
        if key not in target.all:
            print(f"{path}: missing")
            differences += 1
            continue
        for name, value in source.all[key].items():
            other = target.all[key].get(name)
            if shown(value) != shown(other):
                what = "differs" if name == "authorization_rules" else f"{value!r} there, {other!r} here"
                print(f"{path}: {name}: {what}")
                differences += 1
        ours, theirs = ({n: shown(r) for n, r in side.rules.get(key, {}).items()} for side in (target, source))
        for name in sorted(set(ours.items()) ^ set(theirs.items())):
            print(f"{path}: rule {name[0]} differs")
            differences += 1
        print(f"{path}: {source.messages(key)} there; {target.messages(key)} here")
    return differences


def copy(source, target):
    failures = 0
    # What is received from comes last, after all that it may forward to.
    for step in (make, finish):
        for key in sorted(source.all, key=lambda key: (len(key), key)):
            path = "/Subscriptions/".join(key)
            try:
                done = step(target, source, key)
            except HttpResponseError as error:
                print(f"{path}: FAILED: {error.message}")
                failures += 1
                continue
            if done:
                print(f"{path}: {done}")
    return failures


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, compare")
    parser.add_argument("--ca", help="authority of the target's certificate, in PEM")
    arguments = parser.parse_args()
    source = Entities(connect("SOURCE"))
    target = connect("TARGET", arguments.ca)
    for key in source.left_out:
        print(f"{'/Subscriptions/'.join(key)}: left out, a JMS client makes it")
    if arguments.check:
        wrong = check(source, Entities(target))
        print(f"{len(source.all)} entities, {wrong} differences")
    else:
        wrong = copy(source, target)
        print(f"{len(source.all)} entities, {wrong} failures")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
