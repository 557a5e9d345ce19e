"""The runbook has an entry for whatever a node can complain of, and none for what it cannot."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from mammoscope.network.received import Receipt
from mammoscope.node.events import _WORDS

ROOMS = (
    "cli/node/*.py",
    "node/**/*.py",
    "network/**/*.py",
    "reading.py",
    "inference/pool.py",
    "imaging/reader.py",
    "review/**/*.py",
)
LEVELS = {"info", "warning", "error"}


@pytest.fixture(scope="module")
def runbook(root: Path) -> str:
    return (root / "docs" / "runbook.md").read_text()


def logged(root: Path) -> set[str]:
    """What the node writes to its log: every literal that is handed to a logger, and what events become."""
    words = {text for _, text in _WORDS.values()} | {f"object {receipt}" for receipt in Receipt}
    for room in ROOMS:
        for module in (root / "src" / "mammoscope").glob(room):
            for node in ast.walk(ast.parse(module.read_text())):
                match node:
                    case ast.Call(
                        func=ast.Attribute(
                            value=ast.Name("log") | ast.Call(func=ast.Attribute(attr="get_logger")), attr=level
                        ),
                        args=[ast.Constant(str(text)), *_],
                    ) if level in LEVELS:
                        words.add(text)
    return words


def entries(runbook: str, heading: str) -> list[str]:
    """The first column of the table under a heading, its code marks taken off."""
    _, _, rest = runbook.partition(f"\n## {heading}\n")
    assert rest, f"the runbook has no section {heading}"
    table = rest.partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| `")]
    return [entry for row in rows for entry in re.findall(r"`([^`]+)`", row)]


def test_every_line_of_the_log_has_an_entry(root: Path, runbook: str):
    listed = entries(runbook, "What the log says")
    assert len(listed) == len(set(listed))
    assert set(listed) == logged(root)


def test_every_alert_has_an_entry(root: Path, runbook: str):
    rules = yaml.safe_load((root / "deploy" / "alerts.yml").read_text())
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    assert len(alerts) == len(set(alerts))
    assert entries(runbook, "What Prometheus says") == alerts


def test_every_part_of_readyz_has_an_entry(root: Path, runbook: str):
    source = (root / "src" / "mammoscope" / "node" / "service.py").read_text()
    parts = re.findall(r'^ +(?:checks\[)?"([a-z ]+)"(?::|\] =) ', source, re.MULTILINE)
    assert set(parts) >= {"storage", "phantom"}
    assert set(entries(runbook, "What /readyz says")) == set(parts)


def test_the_commands_that_it_names_are_there(runbook: str):
    from typer.main import get_command

    from mammoscope.cli import app

    node = get_command(app).commands["node"]
    named = set(re.findall(r"mammoscope node (\w+)", runbook))
    assert named
    assert named <= set(node.commands)
