"""What is deployed fits the program: alert rules its metrics, compose its settings, the unit its commands."""

import configparser
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mammoscope.node.db.models import DeliveryStatus, StudyState
from mammoscope.node.events import (
    AssociationRefused,
    ImageRead,
    ObjectReceived,
    ReportParked,
    ReportSent,
    SendingFailed,
    StudyFailed,
    StudyRead,
)
from mammoscope.node.monitoring.metrics import Metrics, NodeState, PhantomState
from mammoscope.node.monitoring.readiness import operate_routes
from mammoscope.review import ReviewStore
from mammoscope.review.metrics import ReviewMetrics
from mammoscope.review.store import Origin, ProposedBox, ReadState, SourceImage, SourceStudy
from mammoscope.settings import load_node_settings


@pytest.fixture(scope="module")
def deploy(root: Path) -> Path:
    return root / "deploy"


@pytest.fixture(scope="module")
def read_site(tmp_path_factory: pytest.TempPathFactory) -> ReviewStore:
    """Two months of a hundred images, which a reader has finished."""
    store = ReviewStore(tmp_path_factory.mktemp("site"))
    for month in (1, 2):
        images = tuple(
            SourceImage(f"{month} {n}", Path("none"), proposals=(ProposedBox(Origin.MODEL, (0, 0, 9, 9), "Mass", 0.5),))
            for n in range(100)
        )
        store.put([SourceStudy(str(month), "p", datetime(2026, month, 1, tzinfo=UTC), images, "1", scanner="s")])
        store.finish(month, "Anna", ReadState.DONE)
    return store


@pytest.fixture(scope="module")
def samples(read_site: ReviewStore) -> dict[str, dict[str, set[str]]]:
    """Each sample that the node's page can have, with its labels and their values here."""
    at = AssociationRefused(peer="", address="", reason="").at
    state = NodeState(
        studies=dict.fromkeys(StudyState, 0),
        deliveries={"pacs": dict.fromkeys(DeliveryStatus, 0)},
        workers=1,
        free_bytes=1,
        phantom=PhantomState(at, came_round=True, hops={"read": 1.0}),
        certificate_expires=at,
    )
    metrics = Metrics(lambda: state)
    of_readers = ReviewMetrics(read_site)
    of_readers.work_out()
    metrics.registry.register(of_readers)
    image = {"study": "1", "sop_instance": "2", "scanner": "s", "findings": 0, "seconds": 1.0}
    report = {"study": "1", "report": 1}
    sent = {**report, "destination": "pacs", "tries": 1}
    received = {"study": "1", "sop_instance": "2", "sop_class": "3", "peer": "A", "address": "b"}
    for event in (
        AssociationRefused(peer="", address="", reason=""),
        *(ObjectReceived(**received, outcome=o) for o in ("stored", "known", "ignored", "refused")),
        ImageRead(**image, reason=None),
        ImageRead(**image, reason="r"),
        StudyRead(**report, images=1, findings=0, not_processed=0, seconds=1.0, waited_seconds=1.0),
        StudyFailed(study="1", reason="r"),
        SendingFailed(**sent, reason="r"),
        ReportSent(**sent, sop_instances=(), seconds=1.0),
        ReportParked(**sent, reasons=()),
    ):
        metrics(event)
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(metrics.page().decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def rules(deploy: Path) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load((deploy / "alerts.yml").read_text())["groups"]:
        yield from group["rules"]


def test_the_rules_ask_for_metrics_labels_and_values_that_the_node_has(deploy: Path, samples):
    asked = 0
    for rule in rules(deploy):
        for name, selector in re.findall(r"(mammoscope_\w+)(?:\{([^}]*)\})?", rule["expr"]):
            asked += 1
            assert name in samples, rule["alert"]
            for label, values in re.findall(r'(\w+)=~?"([^"]*)"', selector):
                assert set(values.split("|")) <= samples[name][label], rule["alert"]
    assert asked >= 20


def test_a_rule_says_who_is_told_and_what(deploy: Path):
    for rule in rules(deploy):
        assert rule["labels"]["severity"] in ("page", "warn")
        assert rule["annotations"]["summary"].endswith(".")
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert label in rule["expr"] or label in ("instance", "scanner", "destination", "statistic")


def test_compose_and_its_settings_fit(deploy: Path):
    services = yaml.safe_load((deploy / "compose.yaml").read_text())["services"]
    node = services["node"]
    settings = load_node_settings(deploy / "compose" / "node.toml")
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith("./") or (deploy / source).is_file()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))  # nothing is open to the network
    assert (deploy / node["build"]["context"] / node["build"]["dockerfile"]).is_file()
    assert any(volume.endswith(f":{settings.node.storage}") for volume in node["volumes"])
    assert f"127.0.0.1:{settings.node.port}:{settings.node.port}" in node["ports"]
    orthanc = yaml.safe_load((deploy / "compose" / "orthanc.json").read_text())  # JSON is YAML
    destination = settings.destinations[0]
    assert destination.host in services
    assert (orthanc["DicomAet"], orthanc["DicomPort"]) == (destination.ae_title, destination.port)
    peer = orthanc["DicomModalities"]["mammoscope"]
    assert (peer["AET"], peer["Host"], peer["Port"]) == (settings.node.ae_title, "node", settings.node.port)
    assert orthanc["DicomAet"] in settings.node.allowed_callers


def test_the_image_runs_without_root_and_tells_its_health(deploy: Path, root: Path):
    lines = (deploy / "Dockerfile").read_text()
    last = lines.rpartition("\nFROM ")[2]
    assert "\nUSER mammoscope\n" in last
    path, port = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", lines).group(2, 1)
    assert path in [route.path for route in operate_routes(None, None)]
    assert int(port) == load_node_settings(deploy / "compose" / "node.toml").web.port
    for source in re.search(r"^COPY ((?!--).+) \./$", lines, re.MULTILINE).group(1).split():
        assert (root / source).is_file()
        assert f"!{source}" in (root / ".dockerignore").read_text().split()


def test_the_unit_is_hardened_and_starts_a_command_that_is_there(deploy: Path):
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(deploy / "mammoscope-node.service")
    service = unit["Service"]
    assert service["Restart"] == "always"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["User"] != "root"
    program, *arguments = shlex.split(service["ExecStart"])
    assert program.endswith("/bin/mammoscope")

    from typer.testing import CliRunner

    from mammoscope.cli import app

    result = CliRunner().invoke(app, [*arguments[:2], "--help"])
    assert result.exit_code == 0
    assert "--config" in arguments
