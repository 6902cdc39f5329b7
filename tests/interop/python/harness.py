"""Runs the scenarios of one client program and prints a line for each: what all programs here have in common.

    program.py --port 5672                       every scenario but `idle` and `reconnect`
    program.py --port 5672 --only peek,prefetch  these

A scenario uses the queue or topic `CLIENT.SCENARIO` (tests/interop/matrix.py --print-config declares them all).
"""

import argparse
import asyncio
import datetime
import inspect
import logging
import sys
import time
import traceback

RULE = "RootManageSharedAccessKey"
KEY = "SAS_KEY_VALUE"
LARGE = 900 * 1024
OVERSIZE = 1_500_000
# How long a receiver waits before the test says that a queue is empty.
EMPTY_S = 1
IDLE_S = 70
# Not run unless named: `idle` takes 70 seconds, `reconnect` needs somebody who restarts the broker.
ON_DEMAND = ("idle", "reconnect")


def now():
    """The time as it goes over the wire, in whole milliseconds."""
    moment = datetime.datetime.now(datetime.timezone.utc)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def seconds(count):
    return datetime.timedelta(seconds=count)


class Broker:
    def __init__(self, client, host, port):
        self.client = client
        self.host = host
        self.port = port

    def queue(self, scenario):
        return f"{self.client}.{scenario}"

    def topic(self, scenario):
        return self.queue(scenario)

    def connection_string(self, key=KEY, rule=RULE):
        return (
            f"Endpoint=sb://{self.host}:{self.port};SharedAccessKeyName={rule};"
            f"SharedAccessKey={key};UseDevelopmentEmulator=true;"
        )


def wait_for_restart():
    """Says that the broker may be restarted now, and waits until somebody says that it was."""
    print("READY: restart the broker, then press Enter", flush=True)
    if not sys.stdin.readline():
        raise AssertionError("nobody restarted the broker")


def expect(actual, wanted, what="value"):
    if actual != wanted:
        raise AssertionError(f"{what}: {shorten(actual)} instead of {shorten(wanted)}")


def shorten(value):
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"


def pattern(size):
    """Bytes that show a piece that is missing, doubled or moved."""
    return b"".join(i.to_bytes(4, "big") for i in range(size // 4))


def run(client, scenarios):
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=5672)
    parser.add_argument("--only", help="scenarios, separated by commas")
    parser.add_argument("--list", action="store_true", help="print the names of the scenarios")
    parser.add_argument("--debug", action="store_true", help="the client's own log")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(scenarios))
        return
    if arguments.debug:
        logging.basicConfig(level=logging.DEBUG)
    else:
        # What a client logs about an error that a scenario asked for is noise.
        logging.disable(logging.CRITICAL)
    names = (arguments.only or ",".join(n for n in scenarios if n not in ON_DEMAND)).split(",")
    broker = Broker(client, arguments.host, arguments.port)
    failed = 0
    for name in names:
        started = time.monotonic()
        try:
            result = scenarios[name](broker)
            if inspect.isawaitable(result):
                asyncio.run(result)
            print(f"PASS {name} {time.monotonic() - started:.1f}s", flush=True)
        except Exception as error:  # noqa: BLE001  (every way to fail is a failed scenario)
            failed += 1
            traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"FAIL {name} {text[:400]}", flush=True)
    sys.exit(1 if failed else 0)
