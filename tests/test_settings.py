from pathlib import Path

import pytest

from mammoscope.settings import (
    NodeSettings,
    ResultKind,
    SettingsError,
    Viewer,
    kinds_for,
    load_node_settings,
    not_shown,
)

DESTINATION = '[[destinations]]\nname = "pacs"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = 4242\n'
OPENID = '[openid]\nissuer = "https://login.example"\nclient_id = "us"\nroles = { doctors = "reader" }\n'
TLS = '[tls]\ncertificate = "a.crt"\nkey = "a.key"\ntrusted = "b.crt"\n'


def load(tmp_path: Path, text: str) -> NodeSettings:
    file = tmp_path / "node.toml"
    file.write_text(text)
    return load_node_settings(file)


def test_a_short_file_gets_the_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, DESTINATION)
    assert (settings.node.ae_title, settings.node.host, settings.node.port) == ("MAMMOSCOPE", "127.0.0.1", 11112)
    assert settings.destinations[0].name == "pacs"
    assert settings.destinations[0].retry_hours == 72
    assert settings.destinations[0].results == ("cad-sr", "ai-sr", "presentation-state", "colour-sheet")
    assert settings.model.bundle is None


@pytest.mark.parametrize(
    ("keys", "kinds"),
    [
        ('viewer = "ohif"', ("ai-sr", "colour-sheet")),
        ('viewer = "workstation"', ("cad-sr", "presentation-state", "sheet")),
        ('viewer = ["ohif", "workstation"]', ("ai-sr", "colour-sheet", "cad-sr", "presentation-state", "sheet")),
        ('viewer = "ohif"\nresults = ["sheet"]', ("sheet",)),
    ],
)
def test_the_viewer_says_what_is_sent_unless_results_do(tmp_path: Path, keys: str, kinds: tuple[str, ...]) -> None:
    assert load(tmp_path, f"{DESTINATION}{keys}\n").destinations[0].results == kinds


@pytest.mark.parametrize("viewer", Viewer)
def test_every_viewer_shows_all_that_is_sent_for_it_and_some_of_it_over_an_image(viewer: Viewer) -> None:
    kinds = kinds_for([viewer])
    assert not_shown([viewer], kinds) == ()
    marks = {"ai-sr", "cad-sr", "presentation-state", "colour-image-capture"}
    assert marks.intersection(kinds)


def test_what_none_of_the_viewers_shows_is_known() -> None:
    assert not_shown([Viewer.OHIF], [ResultKind.CAD_SR, ResultKind.AI_SR, ResultKind.SEGMENTATION]) == (
        "cad-sr",
        "segmentation",
    )
    assert not_shown([Viewer.OHIF, Viewer.WORKSTATION], [ResultKind.CAD_SR, ResultKind.AI_SR]) == ()


def test_relative_paths_start_from_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, f'[node]\nstorage = "kept"\n[model]\nbundle = "../my.onnx"\n{DESTINATION}')
    assert settings.node.storage == tmp_path / "kept"
    assert settings.model.bundle == tmp_path / "../my.onnx"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    assert load(tmp_path, f'[node]\nstorage = "/srv/node"\n{DESTINATION}').node.storage == Path("/srv/node")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMMOSCOPE_NODE__PORT", "104")
    monkeypatch.setenv("MAMMOSCOPE_UNRELATED", "x")
    settings = load(tmp_path, f'[node]\nport = 11113\nae_title = "CAD"\n{DESTINATION}')
    assert (settings.node.port, settings.node.ae_title) == (104, "CAD")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"[node]\nprot = 1\n{DESTINATION}", "unknown key 'prot' in [node]; did you mean 'port'?"),
        (f"[nodes]\nport = 1\n{DESTINATION}", "unknown key 'nodes'; did you mean 'node'?"),
        (f"{DESTINATION}aet = 'X'\n", "unknown key 'aet' in [[destinations]] number 1"),
        (f"{DESTINATION}tls = true\n", "'pacs' has tls = true, which needs the section [tls] with our certificate"),
        (f"[node]\nplain = false\n{DESTINATION}", "without the section [tls] leaves nothing to listen on"),
        (
            f"{DESTINATION}transport = 'dicomweb'\n",
            "number 1: the key 'url' is missing, which a peer spoken to by dicomweb",
        ),
        (f"[node]\nallowed_addresses = ['10.0.0.7/24']\n{DESTINATION}", "without host bits"),
        (f"[node]\nexpected_views = ['CC']\n{DESTINATION}", "a side and a projection, like LCC or RMLO"),
        (f"{DESTINATION}results = ['pdf']\n", "[[destinations]]"),
        (f"{DESTINATION}viewer = 'osirix'\n", "[[destinations]] number 1 must be 'any', 'ohif', 'workstation'"),
        (f"{DESTINATION}viewer = 3\n", "[[destinations]] number 1 must be a valid tuple"),
        (f"{DESTINATION}transport = 'hl7'\nresults = ['sheet']\n", "by hl7 a summary is sent, not results"),
        (f"{DESTINATION}application = 'RIS'\n", "are of HL7; delete them, or set transport = 'hl7'"),
        (f"{DESTINATION}transport = 'hl7'\ncommitment = true\n", "nothing commits by hl7"),
        (f"{DESTINATION}{DESTINATION.replace('destinations', 'sources')}transport = 'hl7'\n", "can be fetched by hl7"),
        (f"{DESTINATION}[notices]\nsmtp = 'smtp://m:25'\n", "smtp needs mail_from and mail_to"),
        (f"{DESTINATION}[notices]\nmail_to = ['a@b.c']\n", "mail needs the key 'smtp', the mail server"),
        (
            f"{DESTINATION}[notices]\nsmtp = 'smtp://m:25'\nmail_from = 'a@b.c'\nmail_to = ['a@b.c']\n"
            "smtp_user = 'u'\nsmtp_password = 'p'\n",
            "smtp_password would cross the network in clear",
        ),
        (f"[node]\nport = 70000\n{DESTINATION}", "'port' in [node] must be less than or equal to 65535, not 70000"),
        (f'[node]\nport = "many"\n{DESTINATION}', "'port' in [node] must be a valid integer"),
        (f"[model]\nthreshold = 1.5\n{DESTINATION}", "'threshold' in [model] must be less than or equal to 1, not 1.5"),
        (
            f'[node]\nae_title = "SEVENTEEN_LETTERS"\n{DESTINATION}',
            "'SEVENTEEN_LETTERS' for 'ae_title' in [node] cannot be: an AE title is 1 to 16 plain characters",
        ),
        (f'[node]\nallowed_callers = ["A\\\\B"]\n{DESTINATION}', "in [node] cannot be: an AE title is"),
        (DESTINATION + DESTINATION, "two destinations have the name 'pacs'; give each its own"),
        (DESTINATION.replace("port = 4242", ""), "[[destinations]] number 1: the key 'port' is missing"),
        (DESTINATION.replace("4242", "0"), "'port' in [[destinations]] number 1 must be greater than or equal to 1"),
        ("", "[[destinations]] is missing; say at least once where results go"),
        ("destinations = []", "[[destinations]] is empty"),
        ("[node\n", "is not valid TOML: expected ']' at the end of a table declaration"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, text)
    assert str(tmp_path / "node.toml") in str(raised.value)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("DESTINATIONS", "notjson", " is not valid JSON"),
        ("NODE__ALLOWED_CALLERS", "PACS", " is not valid JSON"),
        ("NODE", "x", " is not valid JSON"),
        ("DESTINATIONS", "5", ": 'destinations' must be a valid tuple"),
        ("DESTINATIONS", '[{"name": "a"}]', ": [[destinations]] number 1: the key 'ae_title' is missing"),
        ("DESTINATIONS__0__PORT", "5", ": 'destinations' must be a valid tuple"),
        ("NODE__PORT", "many", ": 'port' in [node] must be a valid integer"),
        ("NODE__PROT", "5", ": unknown key 'prot' in [node]; did you mean 'port'?"),
        ("MODEL__THRESHOLD", "2", ": 'threshold' in [model] must be less than or equal to 1"),
    ],
)
def test_what_cannot_be_in_the_environment_is_said_of_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(f"MAMMOSCOPE_{variable}", value)
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, DESTINATION)
    assert str(raised.value).startswith(f"the environment variable MAMMOSCOPE_{variable}{sentence}")
    assert "\n" not in str(raised.value)


def test_the_file_is_named_for_its_own_mistake_beside_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAMMOSCOPE_NODE", '{"port": 104}')
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, f"[node]\nquiet_seconds = -1\n{DESTINATION}")
    assert str(raised.value).startswith(f"{tmp_path / 'node.toml'}: 'quiet_seconds' in [node]")


def test_destinations_come_from_the_environment_as_one_json_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = '[{"name": "archive", "ae_title": "ARCHIVE", "host": "10.0.0.2", "port": 104}]'
    monkeypatch.setenv("MAMMOSCOPE_DESTINATIONS", peer)
    assert [d.name for d in load(tmp_path, DESTINATION).destinations] == ["archive"]


def test_a_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no settings file .*mammoscope node init"):
        load_node_settings(tmp_path / "none.toml")


SECRET = "hush-hush-4711"
WEB_PEER = '[[destinations]]\nname = "w"\ntransport = "dicomweb"\nurl = "https://pacs/dicom-web"\n'


@pytest.mark.parametrize(
    "text",
    [
        f'{DESTINATION}[web]\ntokens = "{SECRET}"\n',
        f'{DESTINATION}[web]\ntokens = {{ a = "{SECRET}" }}\n',
        f'{DESTINATION}[web]\ntokens = [["{SECRET}"]]\n',
        f"{DESTINATION}[web]\ntokens = [4711]\n",
        f'{DESTINATION}[[web]]\ntokens = ["{SECRET}"]\n',
        f'web = "{SECRET}"\n{DESTINATION}',
        f'web = ["{SECRET}"]\n{DESTINATION}',
        f'[destinations]\nname = "a"\ntoken = "{SECRET}"\n',
        f'destinations = "{SECRET}"\n',
        f'{WEB_PEER}token = ["{SECRET}"]\n',
        f'{WEB_PEER}token = {{ value = "{SECRET}" }}\n',
        f"{WEB_PEER}token = 4711\n",
        f'{DESTINATION}token = "{SECRET}"\n',
        WEB_PEER.replace("https://pacs", f"https://node:{SECRET}@pacs"),
        WEB_PEER.replace("dicom-web", f"dicom-web?token={SECRET}"),
        f'[node]\ndatabase = ["postgresql://node:{SECRET}@host/db"]\n{DESTINATION}',
        f"[node]\ndatabase = 4711\n{DESTINATION}",
        f'[node]\nstorage = 5\nport = "postgresql://node:{SECRET}@host/db"\n{DESTINATION}',
        f'[node]\nport = "postgresql://host/db?password={SECRET}"\n{DESTINATION}',
        f'node = "{SECRET}"\n{DESTINATION}',
        f'sources = "{SECRET}"\n{DESTINATION}',
        f'{DESTINATION}[audit]\nsyslog = "tcp://node:{SECRET}@host:601"\n',
        f'{DESTINATION}{OPENID}client_secret = ["{SECRET}"]\n',
    ],
)
def test_no_message_holds_a_secret(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, text)
    assert "hush" not in str(raised.value)
    assert "4711" not in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WEB", f'{{"tokens": "{SECRET}"}}'),
        ("WEB", f'["{SECRET}"]'),
        ("WEB__TOKENS", f'"{SECRET}"'),
        ("WEB__TOKENS", SECRET),
        ("DESTINATIONS", f'{{"token": "{SECRET}"}}'),
        ("NODE__DATABASE__X", SECRET),
        ("NODE__PORT", f"postgresql://node:{SECRET}@host/db"),
    ],
)
def test_no_message_about_the_environment_holds_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"MAMMOSCOPE_{variable}", value)
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, DESTINATION)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{DESTINATION}[web]\ntls = true\n", "[web] tls = true needs the section [tls]"),
        (f"{DESTINATION}[web]\nport = 11112\n", "the port of [node] and the port of [web] are both 11112"),
        (f"{DESTINATION}{TLS}port = 8080\n[web]\n", "the port of [tls] and the port of [web] are both 8080"),
        (f"[node]\nplain = true\nport = 2762\n{DESTINATION}{TLS}", "the port of [node] and the port of [tls] are both"),
        (
            f"[node]\nplain = false\n{DESTINATION}{TLS}listen = false\n",
            "without the section [tls] leaves nothing to listen on",
        ),
        (f"{DESTINATION}{OPENID}", "[openid] is how readers log in to the reading room: it needs the section [review]"),
        (
            f"{DESTINATION}[review]\n{OPENID.replace('https', 'http')}",
            "issuer is https, but for a provider on this machine",
        ),
        (f"{DESTINATION}[review]\n{OPENID.replace('reader', 'king')}", "in [openid]"),
        (f"{WEB_PEER}commitment = true\n", "commitment = true needs a peer spoken to by dimse"),
        (f"{WEB_PEER.replace('https', 'http')}tls = true\n{TLS}", "tls = true needs a url that begins with https://"),
    ],
)
def test_sections_that_contradict_each_other_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, text)
    assert sentence in str(raised.value)


def test_with_a_certificate_the_port_without_tls_is_closed_unless_asked_for(tmp_path: Path) -> None:
    assert load(tmp_path, DESTINATION).listens_plain
    assert not load(tmp_path, f"{DESTINATION}{TLS}").listens_plain
    assert load(tmp_path, f"{DESTINATION}{TLS}").tls_port == 2762
    assert load(tmp_path, f"[node]\nplain = true\n{DESTINATION}{TLS}").listens_plain
    assert load(tmp_path, f"{DESTINATION}{TLS}listen = false\n").listens_plain
