"""Runs the public clients against the broker and prints what works with which: client × scenario.

    tests/run interop                          builds the broker and the clients, then runs this
    tests/run interop --client js,rhea --only peek,drain
    tests/run interop --port 5672 --only peek  against a broker that is running already
    matrix.py --print-config > interop.toml    what the scenarios use

One scenario of one client, by hand, against a broker that is running with that configuration:

    python tests/interop/python/sync.py --port 5672 --only lock-expiry
    node tests/interop/js/rhea.mjs --port 5672 --only drain
"""

import argparse
import concurrent.futures
import functools
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# The scenarios in the order of the table, with what their queue needs besides the defaults.
SCENARIOS = {
    "send-one": {},
    "batch-100": {},
    "large": {},
    "complete": {},
    "abandon": {},
    "dead-letter": {},
    "max-delivery": {"max_delivery_count": 3},
    "lock-renewal": {"lock_duration": "5s"},
    "lock-expiry": {"lock_duration": "5s"},
    "receive-and-delete": {},
    "peek": {},
    "prefetch": {},
    "drain": {},
    "wrong-key": {},
    "missing-entity": None,
    "oversize": {},
    "session-named": {"requires_session": True},
    "session-next": {"requires_session": True},
    "session-state": {"requires_session": True},
    "session-renewal": {"requires_session": True, "lock_duration": "5s"},
    "list-sessions": {"requires_session": True},
    "schedule": {},
    "cancel": {},
    "defer": {},
    "duplicates": {"duplicate_detection_history_time_window": "1m"},
    "time-to-live": {
        "default_message_time_to_live": "3s",
        "dead_lettering_on_message_expiration": True,
    },
    "forward": {"forward_to": "{client}.forward.target"},
    "transaction": {"lock_duration": "5s"},
    "selectors": {},
    "browse": {},
    "publish": None,
    "publish-scheduled": None,
    "filters": None,
    "actions": None,
    "rules": None,
    "subscription-peek": None,
    "subscription-delete": None,
    "subscription-dead-letter": None,
    "subscription-sessions": None,
    "subscription-forward": None,
    "subscriptions": None,
    "replies": {},
    "message-types": {},
    "manage-queues": None,
    "manage-topics": None,
    "manage-rules": None,
    "manage-access": None,
    "manage-namespace": None,
    "tls": {},
    "websocket": {},
    "identity": {},
    "identity-renewal": {},
    "identity-management": None,
    "kombu": None,
    "celery": None,
    "keda": None,
    "dapr": None,
    "namespace-per-test": None,
    "faults": None,
    "readme": None,
    "guides": None,
    "move-entities": None,
    "move-messages": None,
    "move-amqp": None,
    "idle": {},
    "reconnect": {},
}
CLIENTS = ("sync", "aio", "js", "go", "azservicebus", "proton", "rhea", "fe2o3", "rest", "qpid-jms")
# These need certificates, and so a broker that this program starts.
DOORS = ("tls", "websocket", "kombu", "celery")
# The name that Kombu asks for, and the one that the client of the REST API has to be led from.
KOMBU_HOST = "peeklock.servicebus.windows.net"
# Needs certificates whatever it does: it speaks https alone.
SECURE_CLIENTS = ("rest",)
# Queues that a scenario needs besides its own.
OTHER_QUEUES = {
    "forward.target": {"forward_dead_lettered_messages_to": "{client}.forward.dead"},
    "forward.dead": {},
    "transaction.results": {},
    "subscription-forward.queue": {},
    "keda.queue": {},
}
BIG = {"name": "big", "sql_filter": "size > 5"}
# The topics of the scenarios: for each subscription its settings and its rules.
TOPICS = {
    "publish": {"a": {}, "b": {}},
    "publish-scheduled": {"a": {}},
    "filters": {
        "everything": {"rules": [{"name": "all"}]},
        "nothing": {"rules": [{"name": "none", "sql_filter": "1 = 0"}]},
        "sql": {"rules": [{"name": "sql", "sql_filter": "size > 5 AND sys.Label LIKE 'b%'"}]},
        "missing": {"rules": [{"name": "missing", "sql_filter": "size IS NULL"}]},
        "correlation": {"rules": [{"name": "red", "correlation_filter.label": "red"}]},
        "typed": {"rules": [{"name": "seven", "correlation_filter.properties.size": 7}]},
    },
    "actions": {
        "a": {
            "rules": [
                BIG,
                {"name": "bigger", "sql_filter": "size > 6"},
                {**BIG, "name": "double", "sql_action": "SET size = size * 2; SET sys.Label = 'doubled'"},
            ]
        },
    },
    "rules": {"a": {}},
    "subscriptions": {},
    "keda": {"a": {}, "b": {}},
    "subscription-peek": {"a": {}},
    "subscription-delete": {"a": {}},
    "subscription-dead-letter": {"a": {"max_delivery_count": 2}, "b": {}},
    "subscription-sessions": {"a": {"requires_session": True}},
    "subscription-forward.topic": {"end": {"rules": [BIG]}},
    "subscription-forward": {
        "to-queue": {"forward_to": "{client}.subscription-forward.queue"},
        "to-topic": {"forward_to": "{client}.subscription-forward.topic"},
    },
}
# Long enough for every scenario of a client on a slow machine, short enough for a build to end.
CLIENT_S = 300
READY_S = 60
# At once: on two cores more only make each other late.
PARALLEL = 3


def section(name, settings):
    """A section of the configuration. The notation of JSON for these values is also that of TOML."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join([f"[[{name}]]", *lines, ""])


def topic(name, subscriptions):
    yield section("topic", {"name": name})
    for subscription, settings in subscriptions.items():
        own = {key: value for key, value in settings.items() if key != "rules"}
        yield section("topic.subscription", {"name": subscription, **own})
        for rule in settings.get("rules", ()):
            yield section("topic.subscription.rule", rule)


def entities(client):
    for name, settings in {**SCENARIOS, **OTHER_QUEUES}.items():
        if settings is not None:
            yield section("queue", {"name": f"{client}.{name}", **settings})
    for name, subscriptions in TOPICS.items():
        yield from topic(f"{client}.{name}", subscriptions)


def config():
    lines = [section("queue", {"name": "orders"})]
    for client in CLIENTS:
        lines += [text.replace("{client}", client) for text in entities(client)]
    return "\n".join(lines)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """The binary as it ships, with its data in a folder of its own."""

    def __init__(self, binary, folder, issuer):
        self.binary, self.folder = binary, folder
        self.port = free_port()
        self.process = None
        self.log_path = os.path.join(folder, "broker.log")
        self.certificates = os.path.join(folder, "certificates")
        make = [binary, "cert", "--dir", self.certificates, "--client", "interop", "--host", KOMBU_HOST]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, timeout=60)
        with open(os.path.join(folder, "interop.toml"), "w", encoding="utf-8") as file:
            file.write(config())
            file.write(self.tls())
            file.write(issuer.config())

    def tls(self):
        path = functools.partial(os.path.join, self.certificates)
        files = {"certificate": "server.pem", "key": "server.key", "client_ca": "ca.pem"}
        lines = [f"{key} = {json.dumps(path(name))}" for key, name in files.items()]
        client = {"common_name": "interop", "rights": ["send", "listen"]}
        return "\n".join(["[tls]", *lines, section("tls.client", client)])

    def start(self):
        command = [self.binary, "serve", "--dev", "--test-control"]
        command += ["--data", os.path.join(self.folder, "data")]
        command += ["--config", os.path.join(self.folder, "interop.toml")]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        # The broker takes settings from variables of its own name; none of them is meant for it here.
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PEEKLOCK_")}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=clean)
        ready = queue.Queue()
        threading.Thread(target=self.read_output, args=(ready,), daemon=True).start()
        try:
            line = ready.get(timeout=READY_S)
        except queue.Empty:
            line = None
        if line is None:
            self.kill()
            raise SystemExit(f"the broker did not become ready:\n{self.log_tail()}")

    def read_output(self, ready):
        """Reports the ready line, or None at the end; keeps reading so that the pipe never fills."""
        for line in self.process.stdout:
            if line.startswith(b"peeklock") and b"ready" in line:
                ready.put(line)
        ready.put(None)

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def log_tail(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-40:])


def programs(arguments):
    python = os.path.join(HERE, "python")
    js = os.path.join(HERE, "js")
    found = {
        "sync": [sys.executable, os.path.join(python, "sync.py")],
        "aio": [sys.executable, os.path.join(python, "aio.py")],
        "js": ["node", os.path.join(js, "servicebus.mjs")],
        "go": [arguments.go] if arguments.go else None,
        "azservicebus": [arguments.azservicebus] if arguments.azservicebus else None,
        "proton": [sys.executable, os.path.join(python, "proton_client.py")],
        "rhea": ["node", os.path.join(js, "rhea.mjs")],
        "fe2o3": [arguments.fe2o3] if arguments.fe2o3 else None,
        "rest": [arguments.rest] if arguments.rest else None,
        "qpid-jms": ["java", "-cp", arguments.qpid_jms, "QpidJms"] if arguments.qpid_jms else None,
    }
    return {name: command for name, command in found.items() if command}


class Client:
    """One run of a client program over some scenarios."""

    def __init__(self, name, command, scenarios, port, trust):
        self.name, self.scenarios = name, scenarios
        self.results = {}
        self.noise = []
        self.waits = threading.Event()
        self.process = subprocess.Popen(
            [*command, "--port", str(port), "--only", ",".join(scenarios)],
            env={**os.environ, **trust},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.readers = [
            threading.Thread(target=self.read_results, daemon=True),
            threading.Thread(target=self.read_noise, daemon=True),
        ]
        for reader in self.readers:
            reader.start()

    def read_results(self):
        for line in self.process.stdout:
            result = re.match(r"(PASS|FAIL) (\S+) ?(.*)", line)
            if result:
                self.results[result[2]] = (result[1], result[3])
                print(f"{result[1]} {self.name} {result[2]} {result[3]}", flush=True)
            elif line.startswith("READY"):
                self.waits.set()
        self.waits.set()

    def read_noise(self):
        for line in self.process.stderr:
            self.noise.append(line)

    def go_on(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            # It has failed already, and said so.
            return

    def finish(self, seconds=CLIENT_S):
        try:
            self.process.wait(timeout=seconds)
            ended = f"the program ended with {self.process.returncode}"
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            ended = f"not done after {seconds} s"
        for reader in self.readers:
            reader.join(timeout=5)
        for scenario in self.scenarios:
            if scenario not in self.results:
                self.results[scenario] = ("FAIL", ended)
                print(f"FAIL {self.name} {scenario} {ended}", flush=True)
        return self


def offered(command, trust):
    """The scenarios of a client. Without certificates the one for Go leaves out what needs them."""
    listing = {"check": True, "capture_output": True, "text": True, "timeout": 60}
    return subprocess.run([*command, "--list"], env={**os.environ, **trust}, **listing).stdout.split()


def run_all(clients, wanted, port, restart, trust):
    """Answers {client: {scenario: (PASS or FAIL, text)}} and prints each as it comes."""
    results = {name: {} for name in clients}
    offers = {name: offered(command, trust) for name, command in clients.items()}
    can = {name: [s for s in wanted if s in offers[name]] for name in clients}

    def start(name, scenarios):
        return Client(name, clients[name], scenarios, port, trust)

    def gather(client):
        results[client.name].update(client.results)
        if any(outcome == "FAIL" for outcome, _ in client.results.values()):
            sys.stderr.write(f"--- {client.name} ---\n" + "".join(client.noise)[-6000:])

    # The idle links wait beside everything else.
    idle = [start(name, ["idle"]) for name in clients if "idle" in can[name]]
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        busy = {
            name: [s for s in can[name] if s not in ("idle", "reconnect")] for name in clients
        }
        # Two programs a client: most of what a scenario does is waiting.
        halves = [(name, all_[half::2]) for name, all_ in busy.items() for half in (0, 1)]
        runs = [
            pool.submit(lambda n, s: start(n, s).finish(), name, scenarios)
            for name, scenarios in halves
            if scenarios
        ]
        for run in runs:
            gather(run.result())
    for client in idle:
        gather(client.finish())

    again = [start(name, ["reconnect"]) for name in clients if "reconnect" in can[name]]
    if again and restart is None:
        print("reconnect needs a broker that this program started: not run", flush=True)
        for client in again:
            client.process.kill()
        return results
    if again:
        for client in again:
            client.waits.wait(timeout=60)
        restart()
        for client in again:
            client.go_on()
        for client in again:
            gather(client.finish())
    return results


def table(results, wanted):
    marks = {"PASS": "✓", "FAIL": "✗"}
    lines = ["| Scenario | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for scenario in wanted:
        row = [marks[r[scenario][0]] if scenario in r else "–" for r in results.values()]
        lines.append(f"| {scenario} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", help="the binary to start")
    parser.add_argument("--port", type=int, help="use the broker that listens there instead")
    parser.add_argument("--go", help="the binary of the client for Go; without it that client is left out")
    parser.add_argument("--azservicebus", help="the binary of the azservicebus client")
    parser.add_argument("--fe2o3", help="the binary of the fe2o3-amqp client")
    parser.add_argument("--rest", help="the binary of the azure_messaging_servicebus client")
    parser.add_argument("--qpid-jms", help="the class path of the qpid-jms client")
    parser.add_argument("--client", help="clients, separated by commas")
    parser.add_argument("--only", help="scenarios, separated by commas")
    parser.add_argument("--print-config", action="store_true")
    arguments = parser.parse_args()
    if arguments.print_config:
        print(config(), end="")
        return 0

    clients = programs(arguments)
    if arguments.client:
        left_out = [name for name in arguments.client.split(",") if name not in clients]
        if left_out:
            parser.error(f"no program for {', '.join(left_out)}")
        clients = {name: clients[name] for name in arguments.client.split(",")}
    wanted = arguments.only.split(",") if arguments.only else list(SCENARIOS)
    unknown = [name for name in wanted if name not in SCENARIOS]
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}")

    started = time.monotonic()
    if arguments.port:
        try:
            socket.create_connection(("127.0.0.1", arguments.port), timeout=5).close()
        except OSError as error:
            raise SystemExit(f"no broker on port {arguments.port}: {error}") from error
        wanted = [name for name in wanted if name not in DOORS]
        clients = {name: it for name, it in clients.items() if name not in SECURE_CLIENTS}
        results = run_all(clients, wanted, arguments.port, None, {})
        unclean = None
    else:
        if not arguments.broker:
            parser.error("--broker or --port is needed")
        folder = tempfile.mkdtemp(prefix="peeklock-interop-")
        # It needs libraries that nothing else here does.
        from issuer import Issuer

        issuer = Issuer()
        broker = Broker(arguments.broker, folder, issuer)
        exits = []

        def restart():
            exits.append(broker.stop())
            broker.start()

        broker.start()
        try:
            authority = os.path.join(broker.certificates, "ca.pem")
            trust = {
                "INTEROP_CERTIFICATES": broker.certificates,
                "INTEROP_ISSUER": issuer.name,
                "NODE_EXTRA_CA_CERTS": authority,
            }
            results = run_all(clients, wanted, broker.port, restart, trust)
        finally:
            exits.append(broker.stop())
        unclean = None if set(exits) == {0} else f"the broker ended with {exits}"
        if unclean or any(o == "FAIL" for r in results.values() for o, _ in r.values()):
            sys.stderr.write(f"--- the end of the broker's log ---\n{broker.log_tail()}\n")
        shutil.rmtree(folder)

    print("\n" + table(results, wanted) + "\n")
    outcomes = [outcome for r in results.values() for outcome, _ in r.values()]
    passed, failed = outcomes.count("PASS"), outcomes.count("FAIL")
    if unclean:
        print(unclean)
        failed += 1
    print(f"{time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
