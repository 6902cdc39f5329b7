"""deploy/grafana: the dashboards are whole. Their queries are tried in test_prometheus."""

import json
import re

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from queries import DASHBOARDS, panels

# What Grafana 10 and 11 read without changing it.
SCHEMA_VERSIONS = range(38, 41)
KINDS = {"row", "stat", "timeseries", "heatmap", "table", "alertlist"}
COLUMNS = 24

dashboards = pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)


def test_there_are_three():
    assert {file.stem for file in DASHBOARDS} == {"overview", "entities", "operations"}
    uids = {json.loads(file.read_text())["uid"] for file in DASHBOARDS}
    assert len(uids) == len(DASHBOARDS)


@dashboards
def test_its_form(file):
    dashboard = json.loads(file.read_text())
    assert dashboard["schemaVersion"] in SCHEMA_VERSIONS
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", dashboard["uid"])
    assert dashboard["title"].startswith("Peeklock: ")
    all_panels = list(panels(dashboard))
    ids = [panel["id"] for panel in all_panels]
    assert len(ids) == len(set(ids)) > 10
    for panel in all_panels:
        assert panel["type"] in KINDS, panel["title"]
        assert panel["title"]
        if panel["type"] not in {"row", "alertlist"}:
            assert panel["targets"], panel["title"]
            letters = [target["refId"] for target in panel["targets"]]
            assert len(letters) == len(set(letters))
            # Never a data source of one installation.
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert all(source["uid"] == "${datasource}" for source in sources)


def lost(given, read, path=""):
    """What is in the one and not in the other."""
    if isinstance(given, dict):
        for key, value in given.items():
            if isinstance(read, dict) and key in read:
                yield from lost(value, read[key], f"{path}/{key}")
            elif value not in (None, False, [], {}, ""):
                yield f"{path}/{key}"
    elif isinstance(given, list):
        if not isinstance(read, list) or len(given) != len(read):
            yield path
        else:
            for index, (a, b) in enumerate(zip(given, read)):
                yield from lost(a, b, f"{path}/{index}")
    elif given != read:
        yield path


@dashboards
def test_grafana_knows_all_that_is_in_it(file):
    """Read into Grafana's own types and written again: what it does not know would be gone."""
    register_default_plugins()
    given = json.loads(file.read_text())
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(given)))
    # A copy of the query of a variable, for people.
    assert [path for path in lost(given, read) if not path.endswith("/definition")] == []


@dashboards
def test_no_panel_covers_another(file):
    taken = set()
    for panel in json.loads(file.read_text())["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))


@dashboards
def test_its_variables_are_declared_and_used(file):
    text = file.read_text()
    declared = {variable["name"] for variable in json.loads(text)["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert used == declared
