"""What the tests of deploy/ share: where things are, programs, and brokers to start."""

import base64
import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
# What tests/run has fetched and built beforehand; there is no network in here.
CACHE = Path(os.environ["PEEKLOCK_DEPLOY_CACHE"])
BROKER = Path(os.environ["PEEKLOCK_BIN"]).resolve()
# Programs that pip installed.
PROGRAMS = Path(sys.executable).parent

SECONDS_TO_START = 60
RULE = "RootManageSharedAccessKey"


def run(*command, check=True, **options):
    """Runs a program; if it fails, shows what it said."""
    options = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
    done = subprocess.run([str(word) for word in command], check=False, timeout=150, **options)
    assert not check or done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done


def seconds_to_stop():
    """How long the broker may take until it is gone, by the defaults of its settings."""
    text = (DEPLOY / "peeklock.example.toml").read_text()
    times = re.findall(r'^#(?:drain_delay|settle_timeout|stop_timeout) = "(\d+)s"', text, re.M)
    assert times, "stop_timeout was not found"
    return sum(map(int, times))


def new_key():
    return base64.b64encode(secrets.token_bytes(32)).decode()


def rule(key, name=RULE, rights="manage"):
    """The variable PEEKLOCK_RULE for one rule."""
    return f'[{{ name = "{name}", primary_key = "{key}", rights = ["{rights}"] }}]'


def clean_environment(**more):
    """Without what may be set for other tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PEEKLOCK_")}
    return {**kept, **more}


def is_listening(port, host="127.0.0.1"):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        return probe.connect_ex((host, port)) == 0


def until(condition, what, seconds=SECONDS_TO_START, process=None):
    """Waits for a condition, as long as the process lives that is to bring it about."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        assert process is None or process.poll() is None, f"it ended before {what}"
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for {what}")


def healthcheck(*before, address="127.0.0.1:5672"):
    """`peeklock healthcheck`, perhaps by way of another program."""
    return run(*before, BROKER, "healthcheck", "--address", address, check=False)


@contextlib.contextmanager
def running(command, ready, what, stop=signal.SIGTERM, code=0, log=None, **options):
    """Runs a program until the block ends, then tells it to stop and looks at its exit code."""
    with open(log or os.devnull, "wb") as out:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=out, stderr=subprocess.STDOUT, **options
        )
    try:
        try:
            until(ready, what, process=process)
        except AssertionError as error:
            said = Path(log).read_text(errors="replace")[-3000:] if log else "(not kept)"
            raise AssertionError(f"{error}\n{command}\n{said}") from error
        yield process
        if callable(stop):
            stop(process)
        else:
            process.send_signal(stop)
        ended = process.wait(timeout=30)
        said = Path(log).read_text(errors="replace")[-3000:] if log else "(not kept)"
        assert code is None or ended == code, f"{command} ended with {ended}\n{said}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def broker(*arguments, port=5672, log=None, env=None, before=(), **options):
    """Runs the broker; it has to answer, and to end well."""
    command = [*before, BROKER, "serve", *arguments]
    return running(
        command,
        lambda: healthcheck(address=f"127.0.0.1:{port}").returncode == 0,
        "the broker answers",
        log=log,
        env=clean_environment(**(env or {})),
        **options,
    )


def command(*arguments, key, port=5672, **options):
    """A command for people, with a key for the rule."""
    env = clean_environment(PEEKLOCK_KEY=key, PEEKLOCK_KEY_NAME=RULE)
    return run(BROKER, *arguments, "--address", f"127.0.0.1:{port}", env=env, **options)


def send_and_receive(key, queue="orders", port=5672):
    """What every way of running the broker is for."""
    command("send", queue, "two coffees", key=key, port=port)
    received = command("receive", queue, key=key, port=port)
    assert "two coffees" in received.stdout, received.stdout


def get(url, token=None):
    """Status and text of a page."""
    request = urllib.request.Request(url)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
