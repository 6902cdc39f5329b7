"""deploy/chart: linted and rendered by Helm, judged by the schemas of Kubernetes, tried with the broker."""

import json
import os
import tarfile

import kubernetes_validate
import pytest
import yaml
from tools import (
    BROKER,
    CACHE,
    DEPLOY,
    ROOT,
    broker,
    get,
    is_listening,
    new_key,
    run,
    seconds_to_stop,
    send_and_receive,
    until,
)

CHART = DEPLOY / "chart"
HELM = CACHE / "helm/helm"
# The oldest and the newest one that there are schemas for and the chart is meant for.
KUBERNETES = ["1.30", "1.37"]
# Defined by the Prometheus operator, not by Kubernetes.
OF_THE_OPERATOR = {"ServiceMonitor", "PrometheusRule"}

RULES = [
    {"name": "shop", "primaryKey": 'quote " and \\ and <&>', "rights": ["send"], "entity": "orders"},
    {"name": "RootManageSharedAccessKey", "primaryKey": new_key(), "rights": ["manage"]},
]
SECURE = {"tls": {"existingSecret": "certificate", "clientCaKey": "ca.crt"}, "auth": {"rules": RULES}}
TESTED = {"tls": {"existingSecret": "certificate", "caKey": "authority.pem"}}
EVERYTHING = {
    **SECURE,
    "plainText": True,
    "metrics": {
        "token": "token",
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
    },
    "podDisruptionBudget": {"enabled": True},
    "networkPolicy": {
        "enabled": True,
        "from": [{"podSelector": {"matchLabels": {"role": "shop"}}}],
        "egress": [{"ports": [{"port": 443}]}],
    },
    "persistence": {"storageClass": "fast", "annotations": {"a": "b"}},
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "broker", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "extraEnv": [{"name": "PEEKLOCK_LIMITS__CONNECTIONS", "value": "100"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
}
CASES = {
    "plain text": {"plainText": True},
    "TLS": SECURE,
    "own secrets": {
        "tls": {"existingSecret": "certificate"},
        "auth": {"existingSecret": "rules"},
        "metrics": {"existingSecret": "token", "serviceMonitor": {"enabled": True}},
    },
    "no volume": {"plainText": True, "persistence": {"enabled": False}},
    "tested with TLS": TESTED,
    "everything": EVERYTHING,
}
cases = pytest.mark.parametrize("values", CASES.values(), ids=CASES)


@pytest.fixture
def helm(tmp_path):
    """Runs Helm with values; it writes nothing outside of the test's folder."""
    env = {**os.environ, "HOME": str(tmp_path)}

    def call(*arguments, values=None, check=True):
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values or {}))
        with_values = ["--values", file] if values is not None else []
        return run(HELM, *arguments, *with_values, env=env, check=check, stderr=None)

    return call


def rendered(helm, values):
    text = helm("template", "bus", CHART, "--namespace", "shop", values=values).stdout
    return [one for one in yaml.safe_load_all(text) if one]


def of_kind(objects, kind):
    return [one for one in objects if one["kind"] == kind]


@cases
def test_helm_lints_it(helm, values):
    helm("lint", "--strict", CHART, values=values)


@cases
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_would_take_it(helm, values, version):
    objects = rendered(helm, values)
    assert {"StatefulSet", "Service", "ConfigMap"} <= {one["kind"] for one in objects}
    for one in objects:
        if one["kind"] not in OF_THE_OPERATOR:
            kubernetes_validate.validate(one, version, strict=True)


def test_every_object_is_made_and_none_by_default(helm):
    optional = {
        "Secret", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "PrometheusRule",
    }  # fmt: skip
    assert optional <= {one["kind"] for one in rendered(helm, EVERYTHING)}
    assert not optional & {one["kind"] for one in rendered(helm, {"plainText": True})}


@cases
def test_what_belongs_together_has_the_same_names(helm, values):
    objects = rendered(helm, values)
    [stateful] = of_kind(objects, "StatefulSet")
    spec = stateful["spec"]
    pod = spec["template"]["spec"]
    labels = spec["template"]["metadata"]["labels"].items()
    [container] = pod["containers"]
    assert spec["replicas"] == 1
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "Service")}
    assert services[spec["serviceName"]]["clusterIP"] == "None"
    ports = {port["name"] for port in container["ports"]}
    for service in services.values():
        assert service["selector"].items() <= labels
        assert {port["targetPort"] for port in service["ports"]} == ports
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        for one in of_kind(objects, kind):
            selector = one["spec"].get("selector") or one["spec"]["podSelector"]
            assert selector["matchLabels"].items() <= labels
    for one in of_kind(objects, "ServiceMonitor"):
        [watched] = [
            service
            for service in of_kind(objects, "Service")
            if one["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        ]
        assert watched["metadata"]["labels"][one["spec"]["jobLabel"]] == "peeklock"
        assert one["spec"]["endpoints"][0]["port"] in ports
    volumes = {one["name"] for one in pod["volumes"]}
    volumes |= {one["metadata"]["name"] for one in spec.get("volumeClaimTemplates", [])}
    assert {one["name"] for one in container["volumeMounts"]} == volumes
    accounts = {one["metadata"]["name"] for one in of_kind(objects, "ServiceAccount")}
    assert pod["serviceAccountName"] in accounts
    made = {one["metadata"]["name"]: one["stringData"] for one in of_kind(objects, "Secret")}
    for variable in container["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        if reference and reference["name"] in made:
            assert reference["key"] in made[reference["name"]]


@pytest.mark.parametrize(
    ("values", "port"),
    [({"plainText": True}, 5672), (SECURE, None), (TESTED, 5671), ({**TESTED, "plainText": True}, 5671)],
)
def test_the_health_check_comes_by_a_door_that_is_open(helm, values, port):
    pods = of_kind(rendered(helm, values), "Pod")
    if port is None:
        assert not pods, "it would not know whom to trust"
        return
    [pod] = pods
    [container] = pod["spec"]["containers"]
    address = container["args"][container["args"].index("--address") + 1]
    assert address.endswith(f":{port}")
    assert ("--tls" in container["args"]) == (port == 5671)
    if port == 5671:
        assert address == "bus-peeklock.shop.svc:5671"
        [volume] = pod["spec"]["volumes"]
        [mount] = container["volumeMounts"]
        assert volume["secret"]["secretName"] == "certificate" and mount["name"] == volume["name"]
        [item] = volume["secret"]["items"]
        authority = container["args"][container["args"].index("--ca") + 1]
        assert (item["key"], authority) == ("authority.pem", f"{mount['mountPath']}/{item['path']}")


def test_the_broker_has_time_to_stop(helm):
    [stateful] = of_kind(rendered(helm, SECURE), "StatefulSet")
    assert seconds_to_stop() < stateful["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


@cases
def test_pods_can_do_little(helm, values):
    objects = rendered(helm, values)
    pods = [one["spec"]["template"]["spec"] for one in of_kind(objects, "StatefulSet")]
    pods += [one["spec"] for one in of_kind(objects, "Pod")]
    for pod in pods:
        security = pod["securityContext"]
        assert security["runAsNonRoot"] and security["runAsUser"] == 65532
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"] and container["resources"]["limits"]


def test_a_change_of_what_is_read_at_the_start_starts_the_broker_again(helm):
    def annotations(**more):
        [stateful] = of_kind(rendered(helm, {**SECURE, **more}), "StatefulSet")
        return stateful["spec"]["template"]["metadata"]["annotations"]

    before = annotations()
    config = annotations(config='[[queue]]\nname = "invoices"\n')
    secret = annotations(auth={"rules": RULES[:1]})
    assert before["checksum/config"] != config["checksum/config"]
    assert before["checksum/secret"] == config["checksum/secret"] != secret["checksum/secret"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "clients in other pods need TLS"),
        ({"plainText": True, "replicas": 3}, "replicas"),
        ({"plainText": True, "auth": {"rules": [{"name": "x", "primaryKey": "short"}]}}, "rights"),
        ({"plainText": True, "terminationGracePeriodSeconds": 1}, "terminationGracePeriodSeconds"),
        ({"plainText": True, "metrics": {"serviceMonitor": {"enabled": True}}}, "metrics.token"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_not_work_is_refused(helm, values, reason, capfd):
    done = helm("template", "bus", CHART, values=values, check=False)
    said = done.stdout + capfd.readouterr().err
    assert done.returncode != 0 and reason in said, said


def test_the_alerts_and_dashboards_are_those_of_the_repository(helm, tmp_path):
    objects = rendered(helm, EVERYTHING)
    [rules] = of_kind(objects, "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    [dashboards] = [one for one in of_kind(objects, "ConfigMap") if "dashboards" in one["metadata"]["name"]]
    for file in (DEPLOY / "grafana/dashboards").glob("*.json"):
        assert json.loads(dashboards["data"][f"peeklock-{file.name}"]) == json.loads(file.read_text())
    # They are links, which a package of the chart has to hold as files.
    helm("package", CHART, "--destination", tmp_path)
    with tarfile.open(tmp_path / "peeklock-0.1.0.tgz") as package:
        assert package.getmember("peeklock/files/alerts.yml").isfile()
        assert package.getmember("peeklock/files/dashboards/overview.json").isfile()


def test_its_version_is_that_of_the_broker():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "Cargo.toml").read_text()
    assert run(BROKER, "--version").stdout.split() == ["peeklock", chart["appVersion"]]


@pytest.mark.parametrize("name", ["plain text", "everything"])
def test_the_broker_runs_as_the_chart_runs_it(helm, name, tmp_path):
    """With the file, the variables and the secrets of the pod, and answers its probes."""
    key = RULES[1]["primaryKey"]
    values = {**CASES[name], "auth": {"rules": RULES}}
    objects = rendered(helm, values)
    [container] = of_kind(objects, "StatefulSet")[0]["spec"]["template"]["spec"]["containers"]
    [config] = [one["data"] for one in of_kind(objects, "ConfigMap") if "peeklock.toml" in one["data"]]
    [secret] = [one["stringData"] for one in of_kind(objects, "Secret")]
    run(BROKER, "cert", "--dir", tmp_path / "cert")
    places = {
        "/var/lib/peeklock": tmp_path / "data",
        "/etc/peeklock-tls/tls.crt": tmp_path / "cert/server.pem",
        "/etc/peeklock-tls/tls.key": tmp_path / "cert/server.key",
        "/etc/peeklock-tls/ca.crt": tmp_path / "cert/ca.pem",
        "/etc/peeklock/peeklock.toml": tmp_path / "peeklock.toml",
    }
    places["/etc/peeklock/peeklock.toml"].write_text(config["peeklock.toml"])
    env = {}
    for variable in container["env"]:
        value = variable.get("value") or secret[variable["valueFrom"]["secretKeyRef"]["key"]]
        env[variable["name"]] = str(places.get(value, value))
    arguments = [str(places.get(word, word)) for word in container["args"]]
    assert arguments.pop(0) == "serve"
    with broker(*arguments, env=env, log=tmp_path / "log"):
        for port in container["ports"]:
            assert is_listening(port["containerPort"]), port
        send_and_receive(key)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            # The way in is the same with and without TLS; a probe takes any certificate.
            page = f"http://127.0.0.1:5300{container[probe]['httpGet']['path']}"
            until(lambda page=page: get(page)[0] == 200, probe)
    log = (tmp_path / "log").read_text()
    assert "means nothing here" not in log, log
