"""deploy/examples and the configurations that are shipped: the broker starts with each, on its ports."""

import tomllib

import pytest
from tools import (
    BROKER,
    DEPLOY,
    broker,
    clean_environment,
    healthcheck,
    is_listening,
    run,
    send_and_receive,
)

EXAMPLES = sorted((DEPLOY / "examples").glob("*.toml"))


def test_there_is_one_for_each_purpose():
    assert {file.stem for file in EXAMPLES} == {"laptop", "ci", "production"}


def address(text):
    host, _, port = text.rpartition(":")
    return ("127.0.0.1" if host == "0.0.0.0" else host), int(port)


@pytest.fixture
def certificate(tmp_path):
    """Files as the examples name them, made by the broker itself."""
    folder = tmp_path / "certificates"
    run(BROKER, "cert", "--dir", folder, "--host", "broker.example")
    return folder


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_broker_starts_with_it(file, tmp_path, certificate):
    settings = tomllib.loads(file.read_text())
    env = {"PEEKLOCK_DATA": str(tmp_path / "data")}
    if "tls" in settings:
        env["PEEKLOCK_TLS__CERTIFICATE"] = str(certificate / "server.pem")
        env["PEEKLOCK_TLS__KEY"] = str(certificate / "server.key")
    if "audit" in settings:
        env["PEEKLOCK_AUDIT__FILE"] = str(tmp_path / "audit.jsonl")
    # Less is free where tests run than where messages are kept.
    env["PEEKLOCK_STORAGE__FREE_SPACE_RESERVE"] = "1 MiB"
    log = tmp_path / "log"
    with broker("--config", file, env=env, log=log):
        for host, port in map(address, settings["listen"]):
            assert is_listening(port, host), port
            assert healthcheck(address=f"{host}:{port}").returncode == 0
        rules = settings.get("rule", [{"primary_key": "SAS_KEY_VALUE"}])
        if settings.get("dev"):
            send_and_receive("SAS_KEY_VALUE")
        for rule in rules:
            assert settings.get("dev") or rule["primary_key"].startswith("REPLACE: ")
        if "metrics" in settings:
            assert settings["metrics"]["token"].startswith("REPLACE: ")
    text = log.read_text()
    assert "means nothing here" not in text, text
    # What is meant for others has nothing in it that the broker has to warn of.
    assert settings.get("dev") or " WARN " not in text and '"WARN"' not in text, text


def test_production_opens_nothing_that_is_for_tests():
    settings = tomllib.loads((DEPLOY / "examples/production.toml").read_text())
    for key in ("dev", "ephemeral", "virtual_time", "test_control", "plain_text"):
        assert key not in settings
    assert settings["tls"] and settings["allowed_networks"] and settings["hosts"]


def test_what_the_image_has_is_refused_only_for_want_of_a_certificate():
    done = run(
        BROKER, "serve", "--config", DEPLOY / "docker/peeklock.toml", "--ephemeral",
        check=False, env=clean_environment(),
    )  # fmt: skip
    assert done.returncode != 0 and "configure [tls]" in done.stdout, done.stdout
