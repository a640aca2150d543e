"""What is shipped to operate a service: valid by schema, and over metrics that the service has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import promql_parser
import pytest
import yaml

from bentos.text_classifier.measures import Measures

FOLDER = Path(__file__).resolve().parents[2] / "bentos" / "operations"
MANIFESTS = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")))
ALERTS = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
METRIC = re.compile(r"\bekiben_[a-z_]+")


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = (manifest for manifest in MANIFESTS if manifest["kind"] == kind)
    return dict(found)


def served_metrics() -> set[str]:
    """Return the names of all that the service's registry holds, as Prometheus stores them."""
    names: set[str] = set()
    for metric in Measures("toy:1", "linear").registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        names |= {metric.name + suffix for suffix in suffixes.get(metric.type, ("",))}
    return names


@pytest.mark.parametrize("manifest", MANIFESTS, ids=[m["kind"] for m in MANIFESTS])
def test_a_manifest_is_valid_by_kubernetes_own_schema(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_schema_refuses_what_kubernetes_does_not_know() -> None:
    broken = json.loads(json.dumps(of_kind("Deployment")))
    broken["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_the_deployment_probes_limits_and_never_has_too_few() -> None:
    spec = of_kind("Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    probes = {name: container[name]["httpGet"]["path"] for name in container if "Probe" in name}
    assert probes == {
        "startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez",
    }  # fmt: skip
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert pod["terminationGracePeriodSeconds"] > int(variables["EKIBEN_SERVE_DRAIN_SECONDS"]) + 5
    (port,) = of_kind("Service")["spec"]["ports"]
    assert port["targetPort"] == container["ports"][0]["name"]


def test_it_scales_on_a_metric_that_the_service_has() -> None:
    (metric,) = of_kind("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in served_metrics()


def expressions() -> Iterator[tuple[str, str]]:
    for group in ALERTS["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    for panel in DASHBOARD["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


@pytest.mark.parametrize(("name", "expression"), list(expressions()))
def test_a_query_is_promql_over_metrics_of_the_service(name: str, expression: str) -> None:
    promql_parser.parse(expression)
    asked = set(METRIC.findall(expression))
    assert asked and asked <= served_metrics()


def test_every_alert_says_what_it_is_about() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 6
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)


def test_no_two_panels_lie_over_each_other() -> None:
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
