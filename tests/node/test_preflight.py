"""Each part and peer tried for real: storage SCPs and a DICOMweb server of a few lines, all on loopback."""

import fcntl
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom.uid import MammographyCADSRStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

from mammoscope.node.preflight import SOP_CLASSES, Outcome, _outcome, _rule, check_machine, check_peers
from mammoscope.settings import NodeSettings, ResultKind

VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"
FIND, MOVE = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"


@contextmanager
def peer(*sop_classes: str, ae_title: str = "PACS") -> Iterator[int]:
    """A peer that accepts these SOP classes; its port."""
    ae = AE(ae_title)
    ae.require_called_aet = True
    for uid in (VERIFICATION, *sop_classes):
        ae.add_supported_context(uid)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0xA700)])
    yield server.server_address[1]
    ae.shutdown()


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., NodeSettings]:
    def make(**sections: object) -> NodeSettings:
        nobody = {"name": "nobody", "ae_title": "NOBODY", "host": "127.0.0.1", "port": 1}
        return NodeSettings(
            **{"node": {"storage": tmp_path / "storage", "port": 0}, "destinations": [nobody], **sections}
        )

    return make


def dimse(port: int, **more: object) -> dict[str, object]:
    return {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port, **more}


def told(outcomes: Iterator[Outcome]) -> dict[str, tuple[bool, str]]:
    return {o.part: (o.well, o.words) for o in outcomes}


def test_every_kind_of_result_has_a_sop_class():
    assert set(SOP_CLASSES) == set(ResultKind)


def test_a_destination_is_asked_for_each_kind_of_result_and_given_nothing(settings):
    with peer(MammographyCADSRStorage, COMMITMENT) as port:
        destination = dimse(port, results=["cad-sr", "sheet"], commitment=True)
        outcomes = told(check_peers(settings(destinations=[destination])))

    assert outcomes["destination pacs: echo"] == (
        True, f"pacs (PACS at 127.0.0.1 port {port}) answers from 127.0.0.1",
    )  # fmt: skip
    assert outcomes["destination pacs: cad-sr"] == (True, "it accepts Mammography CAD SR Storage")
    well, words = outcomes["destination pacs: sheet"]
    assert not well
    assert "does not accept Secondary Capture Image Storage; allow it there" in words
    assert outcomes["destination pacs: storage commitment"][0]


def test_kinds_that_no_viewer_there_shows_are_told(settings):
    with peer(MammographyCADSRStorage, SecondaryCaptureImageStorage) as port:
        destinations = [
            dimse(port, name="none", viewer="ohif", results=["cad-sr"]),
            dimse(port, name="some", viewer="ohif", results=["cad-sr", "sheet"]),
            dimse(port, name="all", viewer=["ohif", "workstation"], results=["cad-sr", "sheet"]),
        ]
        outcomes = told(check_peers(settings(destinations=destinations)))
    well, words = outcomes["destination none: viewer"]
    assert not well
    assert words == (
        "ohif shows nothing of what is sent (cad-sr); delete the key 'results', which sends ai-sr, colour-sheet"
    )
    assert outcomes["destination some: viewer"] == (True, "ohif shows sheet, but not cad-sr")
    assert "destination all: viewer" not in outcomes


def test_a_ris_and_the_channels_of_notices_are_tried_and_told_nothing(settings, hl7_listener, free_port: int):
    with hl7_listener(lambda _: None) as (port, got):
        ris = {"name": "ris", "transport": "hl7", "host": "127.0.0.1"}
        outcomes = told(
            check_peers(
                settings(
                    destinations=[{**ris, "port": port}, {**ris, "name": "away", "port": free_port}],
                    notices={
                        "smtp": f"smtp://127.0.0.1:{free_port}",
                        "mail_from": "a@b.example",
                        "mail_to": ["c@b.example"],
                        "webhook": "http://no-such-host.invalid/secret",
                    },
                )
            )
        )
    assert outcomes["destination ris: connection"][0]
    assert not outcomes["destination away: connection"][0]
    assert "cannot be reached" in outcomes["notices by mail"][1]
    assert "no-such-host.invalid cannot be resolved" in outcomes["notices by webhook"][1]
    assert "secret" not in outcomes["notices by webhook"][1]
    assert got == []


def test_a_rule_that_can_do_nothing_is_told(settings):
    rules = [
        {"name": "strict", "where": {"StationName": "MG1"}, "threshold": 0.6, "destinations": ["nobody"]},
        {"name": "late", "where": {"StationName": "mg1", "Manufacturer": "Acme"}},
        {"name": "film", "where": {"PresentationIntentType": "FOR FILM"}},
        {"name": "stranger", "callers": ["NORTH"], "back_to_sender": True},
        {"name": "rest", "read": False},
    ]
    by_web = {"name": "nobody", "transport": "dicomweb", "url": "http://127.0.0.1:1"}
    made = settings(rules=rules, destinations=[by_web])
    outcomes = {rule.name: _outcome("", partial(_rule, rule, made)) for rule in made.rules}
    assert outcomes["strict"].words == "such images are read, and findings at 0.6 or more sent to nobody"
    assert "the rule 'strict' before it applies to whatever it does" in outcomes["late"].words
    assert "no image has such a PresentationIntentType" in outcomes["film"].words
    assert "add each sender to [[destinations]]" in outcomes["stranger"].words
    assert [name for name, outcome in outcomes.items() if not outcome.well] == ["late", "film", "stranger"]
    assert outcomes["rest"].words == "such images are not read"


def test_what_is_wrong_with_a_peer_is_told_apart(settings, free_port: int):
    with peer(SecondaryCaptureImageStorage) as port:
        outcomes = told(
            check_peers(
                settings(
                    destinations=[
                        dimse(free_port, name="down"),
                        dimse(port, name="title", ae_title="OTHER"),
                        dimse(port, name="where", host="no-such-host.invalid"),
                    ]
                )
            )
        )
    assert "cannot be reached: no connection was made" in outcomes["destination down: echo"][1]
    assert "called AE title not recognised" in outcomes["destination title: echo"][1]
    assert outcomes["destination where: echo"][1].startswith("the name no-such-host.invalid cannot be resolved")
    assert len(outcomes) == 3  # what cannot be reached is not asked for more
    assert not any(well for well, _ in outcomes.values())


def test_a_source_is_asked_for_query_and_retrieval(settings):
    with peer(FIND, MOVE) as port, peer(FIND, ae_title="OTHER") as other:
        sources = [dimse(port, name="a"), dimse(other, name="b", ae_title="OTHER", retrieve="get")]
        outcomes = told(check_peers(settings(sources=sources)))
    assert outcomes["source a: query"][0]
    assert outcomes["source a: move"][0]
    assert outcomes["source b: query"][0]
    assert not outcomes["source b: get"][0]


class Web(BaseHTTPRequestHandler):
    """DICOMweb at /dicom-web, for whom the token "right" may store and "reader" may only query."""

    stored: list[bytes] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self._answer(200, [{}]) if self.path.startswith("/dicom-web/studies?") else self._answer(404, {})

    def do_POST(self) -> None:
        self.stored.append(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/dicom-web/studies":
            self._answer(405, {})
        elif not self.headers["Content-Type"].startswith("multipart/related"):
            self._answer(415, {})
        else:
            token = self.headers.get("Authorization")
            self._answer({None: 401, "Bearer reader": 403}.get(token, 400), {})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_web_peer_is_queried_and_asked_whether_we_may_store(settings, web: str):
    def at(name: str, url: str, token: str | None = None) -> dict[str, object]:
        return {"name": name, "transport": "dicomweb", "url": url, "token": token}

    root = f"{web}/dicom-web"
    outcomes = told(
        check_peers(
            settings(
                destinations=[
                    at("right", root, "right"),
                    at("reader", root, "reader"),
                    at("nobody", root),
                    at("astray", f"{web}/x"),
                    at("https", root.replace("http", "https")),
                ],
                sources=[at("archive", root), at("astray", f"{web}/x")],
            )
        )
    )
    assert outcomes["destination right: store"] == (True, f"right ({root}) lets us store (STOW-RS)")
    assert "does not allow us (403)" in outcomes["destination reader: store"][1]
    assert "does not know who we are (401)" in outcomes["destination nobody: store"][1]
    assert "status 405; check that storing is switched on" in outcomes["destination astray: store"][1]
    assert "does not speak https" in outcomes["destination https: store"][1]
    assert outcomes["source archive: query"] == (True, f"archive ({root}) answers a query (QIDO-RS)")
    assert "has nothing there (404)" in outcomes["source astray: query"][1]
    assert outcomes["destination right: store for real"][1].startswith("not tried")
    assert sum(well for well, _ in outcomes.values()) == 3


def test_a_collector_is_reached(settings, web: str, free_port: int):
    there = settings(audit={"syslog": web.replace("http", "tcp")})
    away = settings(audit={"syslog": f"tcp://127.0.0.1:{free_port}"})
    assert told(check_peers(there))["audit collector"] == (True, f"{web.replace('http', 'tcp')} takes messages")
    assert "takes no messages (Connection refused)" in told(check_peers(away))["audit collector"][1]


def certificate(folder: Path, days: int) -> dict[str, Path]:
    """A certificate that signed itself and ends in so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    files = {"certificate": folder / f"{days}.pem", "key": folder / f"{days}.key", "trusted": folder / f"{days}.pem"}
    files["certificate"].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files["key"].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    files["key"].chmod(0o600)
    return files


def test_the_machine_is_tried_with_the_shipped_model(settings, tmp_path: Path, pacs):
    made = settings(tls={**certificate(tmp_path, 90), "port": 0}, web={"port": pacs.port})
    storage = made.node.storage
    storage.mkdir(mode=0o700)
    with (storage / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a node that runs
        outcomes = told(check_machine(made))

    assert all(well for well, _ in outcomes.values()), outcomes
    assert outcomes["storage"][1] == f"{storage} can be written, synced and hard-linked"
    assert outcomes["database"][1].endswith("; 0 studies")
    assert "is valid until" in outcomes["certificate"][1]
    assert "TLS port" in outcomes
    assert outcomes["web port"][1] == f"127.0.0.1 port {pacs.port} is listened on, and the node runs"
    assert list(outcomes)[-1] == "model"
    assert "read a synthetic mammogram" in outcomes["model"][1]


def test_what_does_not_do_is_told(settings, tmp_path: Path, pacs):
    (tmp_path / "storage").write_text("a file")
    made = settings(
        node={"storage": tmp_path / "storage", "port": 0, "host": "192.0.2.1"},
        web={"port": pacs.port},
        model={"bundle": tmp_path / "missing.onnx"},
        tls={**certificate(tmp_path, 20), "listen": False},
    )
    outcomes = told(check_machine(made))
    assert outcomes["storage"][1].endswith("cannot be made (File exists); name another")
    assert not outcomes["database"][0]
    assert "cannot be listened on (Cannot assign requested address" in outcomes["port"][1]
    assert "cannot be listened on (Address already in use" in outcomes["web port"][1]
    assert outcomes["certificate"][1].endswith("; renew it now")
    assert not outcomes["model"][0]
    assert "missing.onnx" in outcomes["model"][1]


ALL_RESULTS = sorted(set(SOP_CLASSES.values()))


@contextmanager
def storing(status: int) -> Iterator[tuple[int, list[str]]]:
    """A PACS that accepts every kind of result and answers each store with a status; its port, and what it was sent."""
    ae = AE("PACS")
    sent: list[str] = []
    for uid in (VERIFICATION, *ALL_RESULTS):
        ae.add_supported_context(uid)

    def store(event: evt.Event) -> int:
        sent.append(f"{event.dataset.PatientID} {event.dataset.SOPInstanceUID}")
        return status

    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    yield server.server_address[1], sent
    ae.shutdown()


def test_a_destination_that_accepts_and_then_refuses_is_found_out_where_that_is_allowed(settings):
    with storing(0x0124) as (port, sent):
        allowed = told(check_peers(settings(destinations=[dimse(port, try_store=True)])))
    well, words = allowed["destination pacs: store for real"]
    assert not well
    assert "status 0x0124: it does not allow it; give our AE title the right to store there" in words
    assert len(sent) >= 2
    assert all(one.startswith("MAMMOSCOPE-CHECK ") for one in sent)


def test_what_is_stored_to_try_is_the_same_each_time(settings):
    with storing(0x0000) as (port, sent):
        for _ in range(2):
            outcomes = told(check_peers(settings(destinations=[dimse(port, try_store=True)])))
    well, words = outcomes["destination pacs: store for real"]
    assert well
    assert "results of the patient MAMMOSCOPE-CHECK" in words
    assert sent[: len(sent) // 2] == sent[len(sent) // 2 :]


def test_without_leave_nothing_is_stored_and_that_is_said(settings):
    with storing(0x0000) as (port, sent):
        outcomes = told(check_peers(settings(destinations=[dimse(port)])))
    assert outcomes["destination pacs: store for real"][1].startswith("not tried; ")
    assert sent == []


@pytest.mark.parametrize(("mode", "well"), [(0o600, True), (0o644, False), (0o660, False), (0o400, True)])
def test_a_key_that_others_can_read_is_told(settings, tmp_path: Path, mode: int, well: bool):
    tls = certificate(tmp_path, 400)
    Path(tls["key"]).chmod(mode)
    outcomes = told(check_machine(settings(tls={**tls, "port": 0})))
    assert outcomes["certificate"][0] is well
    assert well or "can be read or changed by other accounts" in outcomes["certificate"][1]


@pytest.mark.parametrize(("host", "well"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_tokens_that_go_in_clear_are_told(settings, host: str, well: bool):
    outcomes = told(check_machine(settings(web={"host": host, "port": 0, "tokens": ["hush"]})))
    assert outcomes["web tokens"][0] is well
