"""deploy/Dockerfile: its rules, that it finds what it copies, and what it makes.

No container engine is needed. `buildah` builds the last stage as it stands, on a base that tests/run has
put together from the Debian packages that the real one consists of; the broker that is built already
takes the place of the first stage. bubblewrap runs the image as an engine would.
"""

import fnmatch
import json
import os
import re
import shutil
import signal
import tomllib
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from tools import (
    BROKER,
    CACHE,
    DEPLOY,
    PROGRAMS,
    ROOT,
    healthcheck,
    is_listening,
    new_key,
    rule,
    run,
    running,
    send_and_receive,
)

DOCKERFILE = DEPLOY / "Dockerfile"
PORTS = {5672, 5671, 5300}


@pytest.fixture(scope="module")
def stages():
    """The instructions of each stage, by its name, the last one as ``""``."""
    parser = DockerfileParser(fileobj=None, path=str(DOCKERFILE.parent), cache_content=True)
    found, current = {}, None
    for line in parser.structure:
        if line["instruction"] == "FROM":
            words = line["value"].split()
            name = words[2] if len(words) == 3 else ""
            found[name] = current = []
        if line["instruction"] != "COMMENT" and current is not None:
            current.append((line["instruction"], line["value"]))
    return found


def only(stage, instruction):
    values = [value for name, value in stage if name == instruction]
    assert len(values) == 1, f"{instruction}: {values}"
    return values[0]


def copies(stage, from_stage=False):
    for name, value in stage:
        words = value.split()
        if name == "COPY" and any(word.startswith("--from=") for word in words) == from_stage:
            *sources, target = [word for word in words if not word.startswith("--")]
            yield sources, target


def ignored(path):
    """Whether .dockerignore keeps a path out of the build: its last rule that fits decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        folders = ["/".join(path.split("/")[: depth + 1]) for depth in range(path.count("/") + 1)]
        anywhere = pattern.removeprefix("**/")
        fits = any(
            fnmatch.fnmatch(folder.rsplit("/")[-1] if anywhere != pattern else folder, anywhere)
            for folder in folders
        )
        if fits:
            out = not line.startswith("!")
    return out


def test_hadolint_has_no_complaint():
    run(PROGRAMS / "hadolint", "--failure-threshold", "info", DOCKERFILE)


def test_the_toolchain_is_that_of_the_repository(stages):
    wanted = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    assert only(stages["build"], "FROM").startswith(f"rust:{wanted}-slim-bookworm ")
    assert f"RUSTUP_TOOLCHAIN={wanted}" in only(stages["build"], "ENV").replace('"', "")


def test_the_packages_are_those_that_a_build_needs(stages):
    script = (DEPLOY / "setup.sh").read_text()
    needed = re.search(r"missing_for_build\(\) \{(.*?)\n\}", script, re.S)[1]
    needed = set(re.findall(r"echo (\S+)", needed))
    # The image of Rust has a C compiler.
    assert "gcc" in needed
    install = next(value for name, value in stages["build"] if "apt-get install" in value)
    assert needed - {"gcc"} <= set(install.split()), install


def test_what_is_copied_is_there_and_is_enough(stages, tmp_path):
    """Copies as the first stage does, and asks Cargo whether it has all that it wants."""
    for sources, target in copies(stages["build"]):
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not ignored(source), f"{source} is in .dockerignore"
            into = tmp_path / (source if target == "./" else target)
            if (ROOT / source).is_dir():
                shutil.copytree(
                    ROOT / source,
                    into,
                    ignore=shutil.ignore_patterns("target", "node_modules", "__pycache__", ".venv"),
                    symlinks=True,
                )
            else:
                shutil.copy(ROOT / source, into)
    # The toolchain is named by the environment, as in the Dockerfile: the file is not copied.
    assert not (tmp_path / "rust-toolchain.toml").exists()
    said = run(
        "cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version=1",
        cwd=tmp_path, stderr=None,
    )  # fmt: skip
    packages = {package["name"]: package for package in json.loads(said.stdout)["packages"]}
    for package in packages.values():
        for target in package["targets"]:
            path = target["src_path"]
            assert (tmp_path / path).exists(), path
    # Sources that are compiled in.
    for source in (tmp_path / "broker").rglob("*.rs"):
        text = source.read_text()
        for name in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', text):
            is_test = source.stem == "tests" or "tests" in source.parts
            assert is_test or (source.parent / name).exists(), f"{source} includes {name}"


def test_nothing_else_is_sent_to_the_engine():
    for path in (".git/config", "target/release/peeklock", "docs/CLI.md", "data/x", "README.md"):
        assert ignored(path), path
    for path in ("tests/interop/js/node_modules/x", "protocol/target/x"):
        assert ignored(path), path


def test_the_image_is_safe_by_itself(stages):
    final = stages[""]
    assert only(final, "USER") == "65532:65532"
    assert only(final, "STOPSIGNAL") == "SIGTERM"
    assert {int(port) for port in only(final, "EXPOSE").split()} == PORTS
    assert json.loads(only(final, "ENTRYPOINT")) == ["/usr/bin/peeklock"]
    assert '"/usr/bin/peeklock", "healthcheck"' in only(final, "HEALTHCHECK")
    labels = only(final, "LABEL")
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert only(final, "ARG") == f"VERSION={version}"
    for name in ("title", "description", "version", "licenses", "base.name"):
        assert f"org.opencontainers.image.{name}" in labels


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The last stage, built on the stand-in for its base: its configuration, and its files."""
    work = tmp_path_factory.mktemp("image")
    text = DOCKERFILE.read_text()
    base = re.search(r"^FROM (\S+)$", text, re.M)[1]
    final = text[text.index(f"FROM {base}\n") :]
    store = ["--root", work / "store", "--runroot", work / "run", "--storage-driver", "vfs"]

    def buildah(*arguments):
        return run("buildah", *store, *arguments, stderr=None).stdout.strip()

    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, CACHE / "base", "/")
    buildah("config", "--user", "65532", container)
    buildah("commit", "--quiet", "--rm", container, base)

    context = work / "context"
    for sources, _ in copies(_stage(final)):
        for source in sources:
            (context / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, context / source)
    out = context / "out"
    (out / "usr/bin").mkdir(parents=True)
    (out / "var/lib/peeklock").mkdir(parents=True)
    run("install", "--strip", BROKER, out / "usr/bin/peeklock")
    (context / "Dockerfile").write_text(f"FROM scratch AS build\nCOPY out /out\n{final}")
    buildah(
        "build", "--quiet", "--pull=never", "--format", "docker", "--isolation", "chroot",
        "--tag", "peeklock", context,
    )  # fmt: skip
    inspected = json.loads(buildah("inspect", "--type", "image", "peeklock"))["Docker"]["config"]
    files = buildah("mount", buildah("from", "--pull=never", "peeklock"))
    return inspected, files


def _stage(text):
    for line in text.replace("\\\n", " ").splitlines():
        name, _, value = line.partition(" ")
        yield name, value.strip()


def test_the_image_says_how_it_is_run(image):
    config, _ = image
    assert config["User"] == "65532:65532"
    assert config["Cmd"] == ["serve", "--config", "/etc/peeklock/peeklock.toml"]
    assert config["Healthcheck"]["Test"] == ["CMD", "/usr/bin/peeklock", "healthcheck"]
    assert "/var/lib/peeklock" in config["Volumes"]
    assert {int(port.split("/")[0]) for port in config["ExposedPorts"]} == PORTS


def engine(image, volume, *words, env=()):
    """The command by which bubblewrap runs the image: nothing but the volume can be written to."""
    config, files = image
    given = dict(entry.split("=", 1) for entry in config["Env"]) | dict(env)
    variables = [word for pair in given.items() for word in ("--setenv", *pair)]
    user = config["User"].split(":")
    return [
        "bwrap", "--clearenv", *variables, "--ro-bind", files, "/", "--proc", "/proc", "--dev", "/dev",
        "--bind", volume, "/var/lib/peeklock", "--chdir", config["WorkingDir"], "--unshare-user",
        "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--uid", user[0], "--gid", user[1],
        "--cap-drop", "ALL", "--as-pid-1", "--new-session", "--die-with-parent",
        *config["Entrypoint"], *(words or config["Cmd"]),
    ]  # fmt: skip


def stop_inside(process):
    """As an engine does: the signal goes to the broker, which is the first process in there."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1, children
    os.kill(int(children[0]), signal.SIGTERM)


def test_without_keys_and_certificate_it_says_what_is_missing(image, tmp_path):
    done = run(*engine(image, tmp_path), check=False)
    assert done.returncode != 0
    assert "configure [tls]" in done.stdout, done.stdout


def test_it_runs_on_a_root_file_system_that_cannot_be_written_to(image, tmp_path):
    """As nobody, without any right of root: messages go to the volume, and are there afterwards."""
    key = new_key()
    volume = tmp_path / "volume"
    volume.mkdir()
    env = {
        "PEEKLOCK_RULE": rule(key),
        "PEEKLOCK_PLAIN_TEXT": "true",
        "PEEKLOCK_QUEUE": "orders",
    }
    inside = engine(image, volume, "healthcheck")
    for _ in range(2):
        with running(
            engine(image, volume, env=env),
            lambda: run(*inside, check=False).returncode == 0,
            "the health check of the image passes",
            log=tmp_path / "log",
            stop=stop_inside,
        ):
            assert all(is_listening(port) for port in PORTS)
            send_and_receive(key)
    assert any(volume.iterdir()), "nothing was written to the volume"
    assert healthcheck().returncode != 0, "it still runs"
