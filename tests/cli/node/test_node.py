from pathlib import Path

import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.cli.node import EXAMPLE
from mammoscope.errors import MammoscopeError
from mammoscope.settings import (
    DestinationSettings,
    HealthSettings,
    NodeSettings,
    SettingsError,
    WebSettings,
    load_node_settings,
)


def test_init_writes_settings_that_hold_the_defaults(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    result = CliRunner().invoke(app, ["node", "init", str(config)])
    assert result.exit_code == 0
    settings = load_node_settings(config)
    destination = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    expected = NodeSettings(destinations=(destination,))
    assert settings.destinations == expected.destinations
    assert settings.model == expected.model
    assert settings.node == expected.node.model_copy(update={"storage": tmp_path / "mammoscope-node"})


def test_what_the_example_leaves_out_may_be_put_in(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        "\n".join(
            line.removeprefix("# ") if line.startswith("# ") and " = " in line else line for line in EXAMPLE.split("\n")
        )
    )
    settings = load_node_settings(config)
    assert settings.node.quiet_seconds == 30
    assert settings.node.allowed_callers == ()
    assert settings.node.expected_views == ("RCC", "LCC", "RMLO", "LMLO")
    assert settings.node.database is not None
    assert settings.web == WebSettings()
    assert settings.health == HealthSettings()
    assert settings.audit.syslog == "udp://collector:514"
    assert settings.destinations[0].retry_hours == 72
    assert settings.model.bundle == tmp_path / "my.onnx"


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text("mine")
    result = CliRunner().invoke(app, ["node", "init", str(config)])
    assert isinstance(result.exception, MammoscopeError)
    assert "is there already" in str(result.exception)
    assert config.read_text() == "mine"


def test_run_says_what_is_wrong_with_the_settings(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(EXAMPLE.replace("port = 11112", "port = 111120"))
    result = CliRunner().invoke(app, ["node", "run", "--config", str(config)])
    assert isinstance(result.exception, SettingsError)
    assert "'port' in [node] must be less than or equal to 65535, not 111120" in str(result.exception)


def test_helpers_need_a_database_that_can_be_shared(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(EXAMPLE)
    result = CliRunner().invoke(app, ["node", "work", "--config", str(config)])
    assert isinstance(result.exception, MammoscopeError)
    assert "several workers need PostgreSQL" in str(result.exception)


@pytest.mark.parametrize("command", ["run", "init", "work"])
def test_help(command: str) -> None:
    assert CliRunner().invoke(app, ["node", command, "--help"]).exit_code == 0
