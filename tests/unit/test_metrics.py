"""Metrics: named as Prometheus wants it, described, used, and the same in code, rules, dashboard and pages."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shared import metrics
from shared.metrics import DELIVERY_OUTCOMES, METRICS, OUTCOMES, Counter, Histogram
from shared.tasks import TASKS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((DEPLOY / "grafana" / "bowerbird.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [rule["expr"] for rule in ALERTS] + [target["expr"] for panel in PANELS for target in panel["targets"]]
TARGET_LABELS = {"job", "service", "instance"}
"""Labels that Prometheus adds, by deploy/prometheus/prometheus.yml."""


@pytest.fixture(autouse=True)
def _off_again():
    before = metrics._shown
    yield
    metrics._shown = before


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_is_named_by_the_rules(metric):
    assert re.fullmatch(r"bowerbird_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == isinstance(metric, Counter)
    if isinstance(metric, Histogram):
        assert metric.name.endswith(("_seconds", "_bytes"))
        assert list(metric.buckets) == sorted(metric.buckets)
    assert metric.help[0].isupper() or metric.help[0].isdigit()
    assert metric.help.endswith((".", "waits"))
    assert not set(metric.labels) & {
        "id",
        "unit",
        "attempt",
        "collection",
        "trace",
        "error",
        "path",
        *TARGET_LABELS,
    } or (metric is metrics.BUILD)


def test_every_metric_is_used_where_the_suite_counts():
    text = "\n".join(path.read_text() for folder in ("shared", "services") for path in (ROOT / folder).rglob("*.py"))
    tree = ast.parse((ROOT / "shared" / "metrics.py").read_text())
    names = [node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)]
    declared = [name for name in names if isinstance(getattr(metrics, name), metrics.Metric)]
    assert len(declared) == len(METRICS)
    unused = [name for name in declared if name != "BUILD" and not re.search(rf"metrics\.{name}\b", text)]
    assert not unused


def test_the_page_is_what_the_module_prints():
    assert metrics.page() in (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def used(expression):
    """Yield (metric, labels that it is asked for) of an expression of Prometheus."""
    for name, matchers in re.findall(r"\b(bowerbird_\w+)(?:\{([^}]*)\})?", expression):
        yield name, re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"', matchers)


def metric_of(name):
    base = re.sub(r"_(bucket|count|sum)$", "", name)
    if base in METRICS and isinstance(METRICS[base], Histogram):
        assert name != base, f"{name} is a histogram: ask for its _bucket, _count or _sum"
        return METRICS[base]
    assert name in METRICS, f"there is no metric {name}"
    return METRICS[name]


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_rules_and_dashboard_ask_for_metrics_and_labels_that_there_are(expression):
    known = {"task": set(TASKS), "outcome": {*OUTCOMES, *DELIVERY_OUTCOMES}}
    grouped = {
        label for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression) for label in re.split(r"\W+", group)
    }
    told = set(TARGET_LABELS)
    for name, matchers in used(expression):
        metric = metric_of(name)
        told |= {*metric.labels, "le"} if name.endswith("_bucket") else set(metric.labels)
        for label, value in matchers:
            assert label in {*metric.labels, *TARGET_LABELS}, f"{name} has no label {label}"
            assert label not in known or value in known[label], f"{label} is never {value}"
    assert grouped - {""} <= told, f"no metric has the labels {grouped - told}"


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_an_alert_says_what_it_means_and_the_page_what_to_do(alert):
    assert re.fullmatch(r"Bowerbird[A-Z]\w+", alert["alert"])
    assert alert["labels"]["severity"] in {"page", "ticket", "info"}
    assert alert["annotations"].keys() == {"summary", "description"}
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"| `{alert['alert']}` |" in operations


def test_the_page_knows_no_other_alerts():
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\bBowerbird[A-Z]\w+", operations)) == {alert["alert"] for alert in ALERTS}


def test_a_panel_has_its_place_and_its_source():
    taken = set()
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another"
        taken |= cells
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource"]
    rows = {panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"}
    assert {"Jobs", "Units", "Queues", "Failures", "Throughput", "API"} <= rows


RULES_FILE, CASES_FILE = DEPLOY / "prometheus" / "alerts.yml", ROOT / "tests" / "unit" / "alerts.yml"


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", RULES_FILE), ("test", "rules", CASES_FILE)],
    ids=["well-formed", "fire when they should"],
)
def test_promtool_finds_that_the_rules(arguments):
    command = shutil.which("promtool")
    if command is None:
        pytest.skip("promtool is not installed: Debian's package prometheus has it")
    result = subprocess.run([command, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_nothing_is_loaded_where_nobody_looks():
    code = (
        "import sys; from shared import metrics, tracing; import shared.worker.loop, shared.worker.child;"
        "metrics.ATTEMPTS.inc(task='export', outcome='ok'); tracing.begin('attempt', tracing.new_trace()).finish();"
        "print([name for name in sys.modules if name.split('.')[0] in ('prometheus_client', 'opentelemetry')])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert result.stdout.strip() == "[]"


def test_a_service_shows_its_own_metrics_and_those_that_matter_from_the_start():
    metrics.enable("exporter")
    text, media_type = metrics.exposition("")
    assert media_type.startswith("text/plain")
    assert b'bowerbird_attempts_total{outcome="failed",task="export"} 0.0' in text
    assert b"bowerbird_tick_duration" not in text
    assert b"bowerbird_api" not in text
    metrics.ATTEMPTS.inc(task="export", outcome="failed")
    metrics.UNIT_DURATION.observe(-0.5, task="export")
    text, _ = metrics.exposition("")
    assert b'bowerbird_attempts_total{outcome="failed",task="export"} 1.0' in text
    assert b'bowerbird_unit_duration_seconds_sum{task="export"} 0.0' in text


def test_a_client_that_asks_for_openmetrics_gets_it():
    metrics.enable("scheduler")
    text, media_type = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
