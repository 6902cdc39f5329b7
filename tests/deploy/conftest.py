"""Everything runs in a network of its own, in which all ports are free and nobody else is.

`tests/run deploy` makes it with `unshare --net`. Its loopback device has to be switched on.
"""

import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1


def pytest_sessionstart():
    devices = [name for _, name in socket.if_nameindex()]
    if os.environ.get("PEEKLOCK_DEPLOY_CACHE") is None or "lo" not in devices:
        pytest.exit("run this with tests/run deploy", returncode=2)
    if any(Path(f"/sys/class/net/{name}/device").exists() for name in devices):
        pytest.exit("not in a network of its own: run this with tests/run deploy", returncode=2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
