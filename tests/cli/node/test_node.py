from pathlib import Path

import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.errors import MammoscopeError
from mammoscope.settings import (
    DestinationSettings,
    HealthSettings,
    NodeSettings,
    SettingsError,
    WebSettings,
    load_node_settings,
    reference,
    starting_file,
)
from mammoscope.settings.reference import SECTIONS, keys_of

EXAMPLE = starting_file()


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
    """Every line of it, section by section; a peer is spoken to by one protocol, so the other's keys stay out."""
    config = tmp_path / "node.toml"
    of_other_protocols = ("url = ", "token = ", "application = ", "facility = ")
    example = EXAMPLE.replace("mail_to = []", 'mail_to = ["pacs-team@hospital.example"]')  # needed by a mail server
    said = [line.removeprefix("# ").removeprefix("for example: ") for line in example.split("\n")]
    config.write_text(
        "\n".join(
            line
            for line in said
            if (" = " in line and line.split(" = ")[0].isidentifier() and not line.startswith(of_other_protocols))
            or line.startswith("[")
        )
    )
    settings = load_node_settings(config)
    assert settings.node.quiet_seconds == 30
    assert settings.node.allowed_callers == ()
    assert settings.node.expected_views == ("RCC", "LCC", "RMLO", "LMLO")
    assert settings.node.database is not None
    assert settings.web == WebSettings()
    assert settings.health == HealthSettings()
    assert settings.audit.syslog == "tls://collector:6514"
    assert settings.destinations[0].retry_hours == 72
    assert settings.model.bundle == tmp_path / "my.onnx"
    assert settings.tls is not None
    assert [source.name for source in settings.sources] == ["pacs"]


def test_the_reference_of_settings_is_that_of_this_program() -> None:
    page = Path(__file__).parents[3] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == reference(), "renew it: mammoscope node settings > docs/settings.md"


@pytest.mark.parametrize("section", list(NodeSettings.model_fields))
def test_every_key_is_explained(section: str) -> None:
    keys = list(keys_of(section))
    assert {key.name for key in keys} == set(SECTIONS[section].model_fields)
    for key in keys:
        assert len(key.meaning) > 5, f"[{section}] {key.name} has no description"
        assert key.example != "null", f"[{section}] {key.name} has neither a default nor an example"
        assert f"| `{key.name}` |" in reference()
        assert f"{key.name} = " in EXAMPLE


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
    assert "'port' in [node] has to be 65535 or less, not 111120" in str(result.exception)


def test_helpers_need_a_database_that_can_be_shared(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(EXAMPLE)
    result = CliRunner().invoke(app, ["node", "work", "--config", str(config)])
    assert isinstance(result.exception, MammoscopeError)
    assert "several workers need PostgreSQL" in str(result.exception)


@pytest.mark.parametrize("command", ["run", "init", "work"])
def test_help(command: str) -> None:
    assert CliRunner().invoke(app, ["node", command, "--help"]).exit_code == 0
