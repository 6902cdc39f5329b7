"""deploy/deb: the package is made, is as Debian wants it, and installs, upgrades and goes."""

import os
import textwrap

import pytest
from tools import CACHE, DEPLOY, run

# The maintainer is who builds the package; without DEBEMAIL it has no address.
NOT_OURS = ["bogus-mail-host", "bogus-mail-host-in-debian-changelog"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deb")
    # Packed for speed, not for size.
    env = {**os.environ, "DPKG_DEB_COMPRESSOR_LEVEL": "0"}
    run(DEPLOY / "deb/build", "--binary", os.environ["PEEKLOCK_BIN"], "--output", folder, env=env)
    [built] = folder.glob("*.deb")
    return built


def test_lintian_has_no_complaint(package):
    run("lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags", ",".join(NOT_OURS), package)


def test_it_has_all_its_parts(package):
    listed = {line.split()[5] for line in run("dpkg-deb", "--contents", package).stdout.splitlines()}
    for path in (
        "./usr/bin/peeklock",
        "./lib/systemd/system/peeklock.service",
        "./etc/peeklock/peeklock.toml",
        "./usr/share/man/man1/peeklock.1.gz",
        "./usr/share/man/man1/peeklock-serve.1.gz",
        "./usr/share/bash-completion/completions/peeklock",
        "./usr/share/zsh/vendor-completions/_peeklock",
        "./usr/share/fish/vendor_completions.d/peeklock.fish",
        "./usr/share/doc/peeklock/copyright",
        "./usr/share/doc/peeklock/examples/production.toml",
    ):
        assert path in listed, path


@pytest.fixture(scope="module")
def debian(package, tmp_path_factory):
    """A small Debian with the package beside it, and a way to run scripts in it."""
    root = tmp_path_factory.mktemp("debian") / "root"
    root.mkdir()
    run("tar", "--extract", "--file", CACHE / "debian.tar", "--directory", root, "--exclude=./dev/*")
    for device in ("null", "urandom", "zero"):
        (root / "dev" / device).touch()
    run("cp", package, root / "tmp/peeklock.deb")

    def script(text, **options):
        lines = textwrap.dedent(text)
        mounted = f"""
            for device in null urandom zero; do
                mount --bind /dev/$device {root}/dev/$device
            done
            mount -t proc proc {root}/proc
            exec chroot {root} /bin/sh -euc "$0"
        """
        return run("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", mounted, lines, **options)

    script.root = root
    script("dpkg --install /tmp/peeklock.deb")
    return script


def test_it_lets_nobody_in_and_nobody_read_its_keys(debian):
    said = debian(
        """
        stat --format '%U:%G %a' /etc/peeklock /etc/peeklock/peeklock.toml /var/lib/peeklock \\
            /var/backups/peeklock
        getent passwd peeklock
        """
    ).stdout.splitlines()
    own = "peeklock:peeklock 700"
    assert said[:4] == ["root:peeklock 750", "root:peeklock 640", own, own]
    assert said[4].endswith(":/var/lib/peeklock:/usr/sbin/nologin")
    config = (debian.root / "etc/peeklock/peeklock.toml").read_text()
    active = [line for line in config.splitlines() if line and not line.startswith("#")]
    assert active == ['data = "/var/lib/peeklock"']


def test_the_service_starts_with_the_machine(debian):
    wants = debian.root / "etc/systemd/system/multi-user.target.wants/peeklock.service"
    assert os.readlink(wants) == "/lib/systemd/system/peeklock.service"


def test_the_broker_runs_as_its_user_with_what_was_installed(debian):
    """In the small Debian, with the libraries that the package asks for."""
    said = debian(
        """
        setpriv --reuid peeklock --regid peeklock --clear-groups --no-new-privs --bounding-set=-all \\
            /usr/bin/peeklock serve --config /etc/peeklock/peeklock.toml >/tmp/log 2>&1 &
        for _ in $(seq 100); do
            if /usr/bin/peeklock healthcheck; then break; fi
            sleep 0.2
        done
        /usr/bin/peeklock healthcheck
        kill $!
        wait $!
        ls -A /var/lib/peeklock
        cat /tmp/log
        """
    ).stdout
    assert "peeklock is ready" in said, said


def test_upgrading_keeps_what_was_written_and_purging_keeps_messages(debian):
    config = "etc/peeklock/peeklock.toml"
    with open(debian.root / config, "a", encoding="utf-8") as file:
        file.write("# changed by the administrator\n")
    debian("dpkg --install --force-confold /tmp/peeklock.deb")
    assert "# changed by" in (debian.root / config).read_text()
    (debian.root / "var/lib/peeklock/messages").touch()
    said = debian(
        """
        dpkg --remove peeklock
        test -f /etc/peeklock/peeklock.toml
        dpkg --purge peeklock
        """
    ).stdout
    assert not (debian.root / "etc/peeklock").exists()
    assert (debian.root / "var/lib/peeklock/messages").exists()
    assert "there are still messages in /var/lib/peeklock" in said
    for left in ("usr/bin/peeklock", "lib/systemd/system/peeklock.service"):
        assert not (debian.root / left).exists()
    (debian.root / "var/lib/peeklock/messages").unlink()
    debian("dpkg --install /tmp/peeklock.deb; rm -r /var/lib/peeklock/*  || true; dpkg --purge peeklock")
    for unused in ("var/lib/peeklock", "var/backups/peeklock"):
        assert not (debian.root / unused).exists()
