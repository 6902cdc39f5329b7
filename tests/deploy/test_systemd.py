"""deploy/systemd/peeklock.service: what systemd says of it, and whether the broker runs as it wants."""

import re
import subprocess
import tomllib

import pytest
from tools import BROKER, DEPLOY, broker, new_key, rule, run, seconds_to_stop, send_and_receive

UNIT = DEPLOY / "systemd/peeklock.service"
# 10 is a service without any hardening, 0 one that can do nothing.
EXPOSURE_MAX = 1.5


def settings():
    """All values of a key, in their order."""
    found = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_systemd_accepts_it(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/peeklock", str(BROKER)))
    done = run("systemd-analyze", "verify", "--man=no", unit)
    assert done.stdout == "", done.stdout


def test_it_is_exposed_to_little():
    done = run("systemd-analyze", "security", "--offline=true", UNIT)
    exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)[1])
    assert exposure <= EXPOSURE_MAX, done.stdout


def test_the_broker_has_time_to_stop():
    [timeout] = settings()["TimeoutStopSec"]
    assert seconds_to_stop() < int(timeout.removesuffix("s"))


def test_its_paths_are_those_of_the_package():
    config = tomllib.loads((DEPLOY / "deb/peeklock.toml").read_text())
    [state] = settings()["StateDirectory"]
    assert config["data"] == f"/var/lib/{state}"
    assert settings()["ExecStart"] == ["/usr/bin/peeklock serve --config /etc/peeklock/peeklock.toml"]


# Only Debian's own Python has the module for such filters.
FILTERED = """
import os, seccomp, sys
filter = seccomp.SyscallFilter(seccomp.KILL_PROCESS)
for name in sys.argv[1].split():
    try:
        filter.add_rule(seccomp.ALLOW, name)
    except (RuntimeError, ValueError, OSError):
        pass  # of another processor, or younger than the library
filter.load()
os.execv(sys.argv[2], sys.argv[2:])
"""


def members(name):
    """The calls in one of systemd's sets, with those of the sets in it; or the one call of that name."""
    if not name.startswith("@"):
        return {name}
    listed = run("systemd-analyze", "syscall-filter", name).stdout.split("\n")[1:]
    found = set()
    for line in listed:
        word = line.strip()
        if word.startswith("@"):
            found |= members(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


@pytest.fixture(scope="module")
def allowed():
    calls = set()
    for value in settings()["SystemCallFilter"]:
        sets = [members(name) for name in value.removeprefix("~").split()]
        calls = calls - set().union(*sets) if value.startswith("~") else calls.union(*sets)
    # systemd allows what it needs itself to get that far, whatever the list says.
    return calls | {"execve", "exit", "exit_group", "rt_sigreturn"}


def filtered(allowed, *command):
    return ["/usr/bin/python3", "-c", FILTERED, " ".join(sorted(allowed)), *command]


def test_the_filter_of_system_calls_filters(allowed):
    done = subprocess.run(
        filtered(allowed - {"uname"}, "/bin/uname"), check=False, stderr=subprocess.DEVNULL
    )
    assert done.returncode < 0, "a call that is not allowed does no harm"


def test_the_broker_makes_no_call_that_is_filtered(allowed, tmp_path):
    """Here such a call ends it at once; systemd would answer with an error."""
    key = new_key()
    env = {"PEEKLOCK_RULE": rule(key), "PEEKLOCK_QUEUE": "orders"}
    for _ in range(2):
        with broker(
            "--data", tmp_path / "data", env=env, log=tmp_path / "log", before=filtered(allowed)
        ):
            send_and_receive(key)
