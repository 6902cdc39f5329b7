"""deploy/compose and deploy/emulator: valid by the schema of compose files, and true of the broker."""

import re

import pytest
import yaml
from tools import (
    BROKER,
    DEPLOY,
    PROGRAMS,
    ROOT,
    broker,
    clean_environment,
    get,
    is_listening,
    new_key,
    run,
    running,
    seconds_to_stop,
    send_and_receive,
    until,
)

ALONE = DEPLOY / "compose/compose.yaml"
MONITORING = DEPLOY / "compose/monitoring.yaml"
EMULATOR = DEPLOY / "emulator/compose.yaml"
FILES = [ALONE, MONITORING, EMULATOR]
names = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(DEPLOY)))


def filled(text, variables):
    """Puts variables in as Compose does: ${NAME}, ${NAME:-default} and ${NAME:?what is missing}."""

    def value(match):
        name, _, default = match[1].partition(":")
        if name in variables:
            return variables[name]
        assert default.startswith("-"), f"{name} is not set, and has no default"
        return default[1:]

    return re.sub(r"\$\{([^}]*)\}", value, text)


def services(file, **variables):
    variables = {
        "PEEKLOCK_KEY": "a2V5", "PEEKLOCK_IMAGE": "peeklock", "PEEKLOCK_METRICS_TOKEN": "dG9rZW4=",
        "GRAFANA_PASSWORD": "password", **variables,
    }  # fmt: skip
    return yaml.safe_load(filled(file.read_text(), variables))["services"]


def mounts(file):
    for service in services(file).values():
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            yield source, target


def ports(service):
    """Ports inside of the container."""
    return {int(port.split(":")[-1]) for port in service.get("ports", [])}


@names
def test_the_schema_of_compose_has_no_complaint(file):
    run(PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)


@names
def test_what_is_mounted_or_built_is_there(file):
    declared = yaml.safe_load(file.read_text()).get("volumes", {})
    for source, _ in mounts(file):
        if source.startswith("."):
            assert (file.parent / source).exists(), source
        else:
            assert source in declared, source
    for service in services(file).values():
        if "build" in service:
            context = file.parent / service["build"]["context"]
            assert context.resolve() == ROOT
            assert (context / service["build"]["dockerfile"]).exists()


def test_secrets_have_no_default():
    for file, variables in [
        (ALONE, {"PEEKLOCK_KEY"}),
        (MONITORING, {"PEEKLOCK_METRICS_TOKEN", "GRAFANA_PASSWORD"}),
    ]:
        assert variables == set(re.findall(r"\$\{(\w+):\?", file.read_text()))


def test_secrets_and_volumes_that_are_used_are_declared():
    monitoring = yaml.safe_load(MONITORING.read_text())
    for service in monitoring["services"].values():
        assert set(service.get("secrets", [])) <= set(monitoring["secrets"])
    # The file is laid over the other one, which has the broker.
    assert "image" not in monitoring["services"]["broker"]


def test_the_broker_has_time_to_stop():
    [broker_service] = services(ALONE).values()
    assert seconds_to_stop() < int(broker_service["stop_grace_period"].removesuffix("s"))


def test_the_broker_as_the_files_run_it(tmp_path):
    """With its configuration and the variables of both files, and on its ports."""
    key, token = new_key(), new_key()
    service = services(ALONE, PEEKLOCK_KEY=key)["broker"]
    watched = services(MONITORING, PEEKLOCK_METRICS_TOKEN=token)["broker"]
    targets = {target: ALONE.parent / source for source, target in mounts(ALONE)}
    config = targets["/etc/peeklock/peeklock.toml"]
    env = {**service["environment"], **watched["environment"]}
    env = {**env, "PEEKLOCK_DATA": str(tmp_path / "data")}
    with broker("--config", config, env=env, log=tmp_path / "log"):
        assert ports(service) == {5672, 5300}
        assert all(is_listening(port) for port in ports(service))
        send_and_receive(key)
        until(lambda: get("http://127.0.0.1:5300/readyz")[0] == 200, "it is ready")
        assert get("http://127.0.0.1:5300/metrics", token="another one")[0] == 401
        assert get("http://127.0.0.1:5300/metrics", token=token)[0] == 200
    assert "means nothing here" not in (tmp_path / "log").read_text()


def test_the_emulators_file_runs_the_broker(tmp_path):
    service = services(EMULATOR)["emulator"]
    config = DEPLOY / "emulator/Config.json"
    assert service["command"] == ["serve", "--emulator-config"]
    with running(
        [BROKER, *service["command"], config, "--data", tmp_path / "data"],
        lambda: is_listening(5300),
        "the broker listens",
        log=tmp_path / "log",
        env=clean_environment(**{k: str(v) for k, v in service["environment"].items()}),
    ):
        assert ports(service) == {5672, 5300}
        assert all(is_listening(port) for port in ports(service))
        send_and_receive("SAS_KEY_VALUE", queue="audit")


def test_prometheus_and_grafana_find_each_other():
    monitoring = services(MONITORING)
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    [target] = scraped[0]["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert host in services(ALONE) and int(port) in ports(services(ALONE)[host])
    secret = scraped[0]["authorization"]["credentials_file"]
    assert secret.removeprefix("/run/secrets/") in monitoring["prometheus"]["secrets"]

    provisioning = DEPLOY / "grafana/provisioning"
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert 9090 in ports(monitoring["prometheus"])
    [provider] = yaml.safe_load((provisioning / "dashboards/peeklock.yaml").read_text())["providers"]
    targets = {target: MONITORING.parent / source for source, target in mounts(MONITORING)}
    assert list(targets[provider["options"]["path"]].glob("*.json"))
    assert targets["/etc/grafana/provisioning"].resolve() == provisioning
