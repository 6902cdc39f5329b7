"""The queries of alerts and dashboards, and what of the broker's metrics they name."""

import json
import re

import yaml
from tools import DEPLOY, ROOT

ALERTS = DEPLOY / "prometheus/alerts.yml"
DASHBOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
# Every target has these labels, whatever it exports; the last one is that of histograms.
LABELS_OF_TARGETS = {"job", "instance", "le"}


def alerts():
    """All rules, in the order of the file."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels(dashboard):
    """All panels, with those inside of rows."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def dashboard_queries(file):
    """Title and query, with a value in the place of each of Grafana's variables."""
    dashboard = json.loads(file.read_text())
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            yield panel["title"], plain(target["expr"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            selector = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert selector, variable["query"]
            yield variable["name"], f"group by ({selector[2]}) ({plain(selector[1])})"


def plain(query):
    query = query.replace("$__rate_interval", "1m")
    return re.sub(r"\$(\w+)", ".*", query)


def all_queries():
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    for file in DASHBOARDS:
        for title, query in dashboard_queries(file):
            yield f"{file.stem}: {title}", query


def named(query):
    """Metrics that a query names, each with the labels that it selects by."""
    for match in re.finditer(r"\b((?:peeklock|process)_\w+)(?:\{([^}]*)\})?", query):
        yield match[1], set(re.findall(r"(\w+)\s*[=!]", match[2] or ""))


def grouped(query):
    """Labels that a query groups or joins by."""
    for match in re.finditer(r"\b(?:by|ignoring|on)\s*\(([^)]*)\)", query):
        yield from re.findall(r"\w+", match[1])


def documented():
    """Kind and labels of each metric in docs/METRICS.md, which a test of the broker keeps true."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", (ROOT / "docs/METRICS.md").read_text(), re.M
    )
    assert len(rows) > 5, "the table was not found"
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def family(name, metrics):
    """The metric that a series belongs to: a histogram has three kinds of them."""
    for suffix in ("_bucket", "_sum", "_count"):
        base = name.removesuffix(suffix)
        if base != name and metrics.get(base, ("",))[0] == "histogram":
            return base
    return name
