"""deploy/prometheus: promtool's opinion, and a real Prometheus that scrapes the running broker."""

import json
import re
import urllib.parse
from pathlib import Path

import pytest
import yaml
from queries import ALERTS, alerts, all_queries, documented, family, grouped, LABELS_OF_TARGETS, named
from tools import (
    BROKER,
    CACHE,
    DEPLOY,
    broker,
    get,
    is_listening,
    new_key,
    rule,
    run,
    running,
    send_and_receive,
    until,
)

PROMTOOL = CACHE / "prometheus/usr/bin/promtool"
PROMETHEUS = CACHE / "prometheus/usr/bin/prometheus"
PROMETHEUS_PORT = 9090
CONFIG = DEPLOY / "prometheus/prometheus.yml"


def test_promtool_accepts_the_rules():
    run(PROMTOOL, "check", "rules", ALERTS)


def test_the_alerts_fire_when_they_should_and_only_then():
    run(PROMTOOL, "test", "rules", DEPLOY / "prometheus/alerts_test.yml")


def test_each_alert_is_tested_and_says_what_to_do():
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yml").read_text())["tests"]
    tested = [test["alert_rule_test"][0]["alertname"] for test in tests]
    assert tested == [rule["alert"] for rule in alerts()]
    for test in tests:
        series = "".join(entry["series"] for entry in test["input_series"])
        assert "quiet:5300" in series, f"{test['name']} is not tested for silence"
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        annotations = rule["annotations"]
        assert annotations["runbook"] == f"docs/OPERATIONS.md#{rule['alert'].lower()}"
        assert annotations["summary"] and annotations["description"]


def config(folder, token):
    """The configuration as it is shipped, for the broker of this test."""
    text = CONFIG.read_text().replace("/run/secrets/metrics-token", str(token))
    settings = yaml.safe_load(text)
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(ALERTS)]
    [job] = settings["scrape_configs"]
    job["static_configs"] = [{"targets": ["127.0.0.1:5300"]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(settings))
    return file


def test_promtool_accepts_the_configuration(tmp_path):
    token = tmp_path / "token"
    token.write_text("token")
    for name in ("prometheus.yml", "alerts.yml"):
        text = (DEPLOY / "prometheus" / name).read_text()
        (tmp_path / name).write_text(text.replace("/run/secrets/metrics-token", str(token)))
    run(PROMTOOL, "check", "config", tmp_path / "prometheus.yml")


def test_queries_name_what_the_broker_exports():
    """Every metric and every label in an alert or a dashboard is in the table of docs/METRICS.md."""
    metrics = documented()
    unknown = []
    for where, query in all_queries():
        labels = set(LABELS_OF_TARGETS)
        for name, selected in named(query):
            known = metrics.get(family(name, metrics))
            if known is None:
                unknown.append(f"{where}: {name}")
                continue
            labels |= known[1]
            unknown += [f"{where}: {name}{{{label}}}" for label in selected - known[1] - labels]
        unknown += [f"{where}: by {label}" for label in set(grouped(query)) - labels]
    assert not unknown, "\n".join(unknown)


def is_ready():
    """Prometheus listens before it answers."""
    address = f"http://127.0.0.1:{PROMETHEUS_PORT}/-/ready"
    return is_listening(PROMETHEUS_PORT) and get(address)[0] == 200


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """A broker that did some work, and a Prometheus that watches it."""
    folder = tmp_path_factory.mktemp("scraped")
    key, token = new_key(), new_key()
    run(BROKER, "cert", "--dir", folder / "certificates")
    (folder / "token").write_text(token)
    env = {
        "PEEKLOCK_RULE": rule(key),
        "PEEKLOCK_QUEUE": "orders",
        # The token alone lets Prometheus in, as between containers.
        "PEEKLOCK_METRICS__TOKEN": token,
        "PEEKLOCK_METRICS__ALLOWED_NETWORKS": "[]",
        "PEEKLOCK_TLS__CERTIFICATE": str(folder / "certificates/server.pem"),
        "PEEKLOCK_TLS__KEY": str(folder / "certificates/server.key"),
    }
    prometheus = [
        PROMETHEUS,
        f"--config.file={config(folder, folder / 'token')}",
        f"--storage.tsdb.path={folder / 'series'}",
        f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}",
    ]
    with (
        broker("--data", folder / "data", env=env, log=folder / "broker.log"),
        running(
            prometheus, is_ready, "Prometheus is ready",
            log=folder / "prometheus.log",
        ),
    ):  # fmt: skip
        send_and_receive(key)
        until(lambda: [one for one in ask("up") if one["value"][1] == "1"], "a scrape")
        yield token


def api(path, **parameters):
    url = f"http://127.0.0.1:{PROMETHEUS_PORT}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    status, text = get(url)
    answer = json.loads(text)
    assert status == 200 and answer["status"] == "success", f"{parameters}: {text}"
    return answer["data"]


def ask(query):
    return api("query", query=query)["result"]


def test_prometheus_is_let_in_by_its_token(scraped):
    assert get("http://127.0.0.1:5300/metrics")[0] == 401
    assert get("http://127.0.0.1:5300/metrics", token=scraped)[0] == 200


def test_promtool_accepts_what_is_exported(scraped):
    _, page = get("http://127.0.0.1:5300/metrics", token=scraped)
    done = run(PROMTOOL, "check", "metrics", input=page)
    assert done.stdout == "", done.stdout


def test_what_is_scraped_is_what_is_documented(scraped):
    """And so what the queries name is there, apart from what a broker has only under some conditions."""
    _, page = get("http://127.0.0.1:5300/metrics", token=scraped)
    exported = dict(re.findall(r"^# TYPE (\w+) (\w+)$", page, re.M))
    metrics = documented()
    for name, kind in exported.items():
        assert metrics.get(name, ("",))[0] == kind, name
    assert metrics.keys() == exported.keys()
    series = {f"{name}_bucket" if kind == "histogram" else name for name, kind in exported.items()}
    there = {name for name in series if re.search(rf"^{name}(?:\{{.*\}})? ", page, re.M)}
    assert len(there) > 40
    until(lambda: there <= set(api("label/__name__/values")), "Prometheus has all of them")


def test_prometheus_evaluates_every_query(scraped):
    """Each with the metrics of the running broker: one that joins what does not fit is an error."""
    count = 0
    for _, query in all_queries():
        ask(query)
        count += 1
    assert count > 80


def test_no_alert_fires_for_a_broker_that_is_well(scraped):
    [*groups] = api("rules", type="alert")["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    names = [rule["alert"] for rule in alerts()]
    assert sorted(rule["name"] for rule in loaded) == sorted(names)
    until(
        lambda: all(
            rule["health"] == "ok"
            for group in api("rules", type="alert")["groups"]
            for rule in group["rules"]
        ),
        "every alert is evaluated",
    )
    firing = [one for one in api("alerts")["alerts"] if one["state"] == "firing"]
    assert firing == [], firing


def test_there_is_nothing_for_prometheus_that_is_not_checked():
    checked = {"prometheus.yml", "alerts.yml", "alerts_test.yml"}
    assert {Path(file).name for file in (DEPLOY / "prometheus").iterdir()} == checked
