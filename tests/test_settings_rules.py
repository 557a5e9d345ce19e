"""Rules of the node's settings, and settings that other files are part of."""

from pathlib import Path

import pytest

from mammoscope.settings import RuleSettings, SettingsError, load_node_settings
from mammoscope.settings.rules import matches, never_applies, wrong_keyword

DESTINATION = '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'


def write(folder: Path, text: str, name: str = "node.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file


def rule(name: str, **keys: object) -> RuleSettings:
    return RuleSettings.model_validate({"name": name, **keys})


def test_one_text_or_several_may_be_asked_for(tmp_path: Path) -> None:
    text = f'{DESTINATION}[[rules]]\nname = "a"\nwhere = {{ StationName = "MG1", Manufacturer = ["A*", "B"] }}\n'
    [only] = load_node_settings(write(tmp_path, text)).rules
    assert only.where == {"StationName": ("MG1",), "Manufacturer": ("A*", "B")}
    assert (only.read, only.threshold, only.destinations, only.back_to_sender) == (True, None, None, False)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ('where = { Station = "A" }', "there is no DICOM attribute of this keyword"),
        ('where = { PatientID = "1" }', "nothing that names a patient"),
        ('where = { AccessionNumber = "1" }', "nothing that names a patient"),
        ('where = { OperatorsName = "X" }', "nothing that names a patient"),
        ('where = { ViewCodeSequence = "X" }', "texts and numbers only"),
        ('destinations = ["pcas"]', "the rule 'a' names the destination 'pcas', which there is not; there is pacs"),
        ("threshold = 2", "'threshold' in [[rules]] number 1"),
        ('reads = true', "did you mean 'read'?"),
        ('\n[[rules]]\nname = "a"', "two rules have the name 'a'"),
    ],
)  # fmt: skip
def test_what_a_rule_cannot_be_is_said(tmp_path: Path, keys: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_node_settings(write(tmp_path, f'{DESTINATION}[[rules]]\nname = "a"\n{keys}\n'))
    assert sentence in str(error.value)


def test_patterns_are_of_texts_and_not_of_brackets() -> None:
    assert matches("Senographe Pristina", ["lorad*", "seno*"])
    assert matches("MG[1]", ["mg[1]"])
    assert not matches("MG1", ["mg[1]", "mg?2"])
    assert wrong_keyword("StationName") is None


@pytest.mark.parametrize(
    ("first", "second", "never"),
    [
        ({}, {"where": {"StationName": "MG1"}}, True),
        ({"where": {"StationName": "MG*"}}, {"where": {"StationName": "mg1", "Manufacturer": "A"}}, True),
        ({"where": {"StationName": ["MG1", "MG2"]}}, {"where": {"StationName": "MG2"}}, True),
        ({"where": {"StationName": "MG1"}}, {"where": {"StationName": "MG*"}}, False),
        ({"where": {"StationName": "MG1"}}, {"where": {"Manufacturer": "A"}}, False),
        ({"callers": ["A", "B"]}, {"callers": ["B"]}, True),
        ({"callers": ["A"]}, {"callers": ["A", "B"]}, False),
        ({"callers": ["A"]}, {}, False),
        ({"where": {"StationName": "X"}}, {"where": {"PresentationIntentType": "FOR VIEWING"}}, True),
        ({"where": {"StationName": "X"}}, {"where": {"PresentationIntentType": "for proc*"}}, False),
    ],
)
def test_a_rule_that_no_image_comes_to_is_found(first: dict, second: dict, never: bool) -> None:
    assert ("second" in never_applies([rule("first", **first), rule("second", **second)])) is never


def test_what_sites_share_is_in_a_file_of_its_own(tmp_path: Path) -> None:
    common = (
        '[node]\nae_title = "COMMON"\nquiet_seconds = 5\n[tls]\ncertificate = "a.crt"\nkey = "a.key"\ntrusted = "b"\n'
    )
    write(tmp_path / "shared", f'{common}{DESTINATION}[[rules]]\nname = "last"\n', "common.toml")
    own = 'include = ["../shared/common.toml"]\n[node]\nae_title = "NORTH"\nstorage = "kept"\n'
    other = DESTINATION.replace("pacs", "north")
    settings = load_node_settings(write(tmp_path / "north", f'{own}{other}[[rules]]\nname = "first"\n'))
    assert (settings.node.ae_title, settings.node.quiet_seconds) == ("NORTH", 5)
    assert settings.node.storage == tmp_path / "north" / "kept"
    assert settings.tls is not None
    assert settings.tls.certificate.resolve() == (tmp_path / "shared" / "a.crt").resolve()
    assert [d.name for d in settings.destinations] == ["north", "pacs"]
    assert [r.name for r in settings.rules] == ["first", "last"]


@pytest.mark.parametrize(
    ("common", "own", "at_fault", "sentence"),
    [
        ("[node]\nport = 70000\n", "", "common.toml", "'port' in [node]"),
        ("[node]\nport = 104\n", "[node]\nprot = 1\n", "node.toml", "did you mean 'port'?"),
        (
            DESTINATION.replace("104", "0"),
            DESTINATION.replace("pacs", "own"),
            "common.toml",
            "'port' in [[destinations]]",
        ),
        ('include = ["more.toml"]\n', "", "common.toml", "name them all in"),
        ("[node\n", "", "common.toml", "is not valid TOML"),
    ],
)
def test_the_file_at_fault_is_named(tmp_path: Path, common: str, own: str, at_fault: str, sentence: str) -> None:
    write(tmp_path, common, "common.toml")
    more = "" if "destinations" in own else DESTINATION
    with pytest.raises(SettingsError) as error:
        load_node_settings(write(tmp_path, f'include = ["common.toml"]\n{own}{more}'))
    assert sentence in str(error.value)
    assert str(tmp_path / at_fault) in str(error.value).partition(sentence)[0]


def test_an_included_file_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no settings file .*gone.toml, which .*node.toml includes"):
        load_node_settings(write(tmp_path, f'include = ["gone.toml"]\n{DESTINATION}'))
    with pytest.raises(SettingsError, match="'include' is a list of file names"):
        load_node_settings(write(tmp_path, f'include = "gone.toml"\n{DESTINATION}'))
