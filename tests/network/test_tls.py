"""TLS files and handshakes, with our own service and with DCMTK on the other side."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydicom import FileDataset, dcmread
from pydicom.uid import BreastTomosynthesisImageStorage

from mammoscope.network import (
    CallerRefusal,
    CertificateError,
    Destination,
    DimsePeer,
    NoTLSError,
    PeerUnreachableError,
    StorageClient,
    StorageService,
    TLSConfig,
    TLSConfigError,
)

MakeObject = Callable[..., FileDataset]


def peer(port: int | None, *, tls: bool = True) -> DimsePeer:
    assert port
    return DimsePeer("pacs", "NODE", "127.0.0.1", port, tls=tls)


@pytest.fixture
def refusals() -> list[CallerRefusal]:
    return []


@pytest.fixture
def secure(tmp_path: Path, receiver, certificates, refusals):
    with StorageService(
        "NODE",
        tmp_path / "incoming",
        receiver,
        plain=False,
        tls=certificates.issue("node"),
        tls_port=0,
        on_caller_refused=refusals.append,
    ) as service:
        yield service


def test_an_object_goes_over_mutual_tls(secure, certificates, receiver, make_object: MakeObject) -> None:
    sent = make_object()
    client = StorageClient("TESTER", tls=certificates.issue("modality"))
    [sending] = client.send([sent], peer(secure.tls_port))
    assert sending.error is None
    assert [r.sop_instance_uid for r in receiver.received] == [sent.SOPInstanceUID]


def test_plain_and_tls_beside_each_other(tmp_path: Path, receiver, certificates) -> None:
    ours = certificates.issue("node")
    with StorageService("NODE", tmp_path / "incoming", receiver, tls=ours, tls_port=0) as service:
        assert service.port != service.tls_port
        client = StorageClient("TESTER", tls=ours)
        client.echo(peer(service.port, tls=False))
        client.echo(peer(service.tls_port))


def test_tls_1_2_is_spoken_with_authenticated_encryption_only(secure, certificates) -> None:
    """RFC 9325, 4.2: a peer that has AES in CBC mode only is refused."""
    config = certificates.issue("peer")

    def agreed(ciphers: str) -> str:
        context = certificates.trusting_context()
        context.load_cert_chain(config.certificate, config.key)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        with (
            socket.create_connection(("127.0.0.1", secure.tls_port), 20) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        ):
            return wrapped.cipher()[0]

    assert agreed("ECDHE+AESGCM").endswith(("GCM-SHA384", "GCM-SHA256"))
    with pytest.raises(ssl.SSLError, match="handshake failure"):
        agreed("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA256")
    for context in (config.listening(), config.calling(), config.serving_https(), config.calling_https()):
        assert [cipher["name"] for cipher in context.get_ciphers() if not cipher["aead"]] == []


def test_a_caller_without_a_certificate_or_with_a_strangers_is_refused(
    secure, certificates, refusals, tmp_path: Path, wait_until
) -> None:
    (tmp_path / "other").mkdir()
    stranger = type(certificates)(tmp_path / "other", "stranger").issue("modality")
    # It trusts us, but nobody here trusts who signed its own.
    stranger = TLSConfig(stranger.certificate, stranger.key, certificates.trusted)
    with pytest.raises(CertificateError, match=r"refuses our certificate .*; have it trust who signed ours"):
        StorageClient("TESTER", tls=stranger).echo(peer(secure.tls_port))
    wait_until(lambda: refusals)
    assert refusals[0].address == "127.0.0.1"
    assert "its certificate is not trusted: unable to get local issuer certificate" in refusals[0].reason


def test_our_own_expired_certificate_is_told_before_anyone_is_called(certificates) -> None:
    with pytest.raises(TLSConfigError, match=r"modality\.pem expired on .*; renew it"):
        StorageClient("TESTER", tls=certificates.issue("modality", timedelta(hours=-1))).echo(peer(104))


def test_an_expired_certificate_of_the_peer(certificates) -> None:
    expired = certificates.issue("pacs", timedelta(hours=-1))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(expired.certificate, expired.key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(2):  # the association's handshake, and the one that tells why it failed
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=answer)
        thread.start()
        client = StorageClient("TESTER", tls=certificates.issue("modality"))
        with pytest.raises(
            CertificateError, match="a certificate that we do not trust: certificate has expired; renew"
        ):
            client.echo(peer(server.getsockname()[1]))
        thread.join(60)


def test_a_peer_whose_certificate_we_do_not_trust(secure, certificates, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = type(certificates)(tmp_path / "other", "stranger")
    ours = certificates.issue("modality")
    distrusting = TLSConfig(ours.certificate, ours.key, stranger.trusted)
    with pytest.raises(CertificateError, match=r"shows a certificate that we do not trust: (self-signed|unable)"):
        StorageClient("TESTER", tls=distrusting).echo(peer(secure.tls_port))


def test_no_tls_there_and_nobody_there_are_told_apart(tmp_path: Path, receiver, certificates) -> None:
    client = StorageClient("TESTER", timeout_seconds=20, tls=certificates.issue("modality"))
    with (
        StorageService("NODE", tmp_path / "incoming", receiver) as plain,
        pytest.raises(NoTLSError, match=r"by TLS\) does not answer in TLS 1\.2 or newer; check its TLS port"),
    ):
        client.echo(peer(plain.port))
    with pytest.raises(PeerUnreachableError, match="Connection refused"):
        client.echo(peer(plain.port))


def test_somebody_who_speaks_no_tls_to_us_does_not_hold_up_the_others(
    secure, certificates, refusals, wait_until
) -> None:
    with (
        socket.create_connection(("127.0.0.1", secure.tls_port)) as plain,
        socket.create_connection(("127.0.0.1", secure.tls_port)),
    ):  # the second says nothing at all
        plain.sendall(b"\x01\x00\x00\x00\x00\xcd" + bytes(205))
        StorageClient("TESTER", tls=certificates.issue("modality")).echo(peer(secure.tls_port))
        wait_until(lambda: refusals)
    assert refusals[0] == CallerRefusal("", "127.0.0.1", "it does not speak TLS 1.2 or newer")


@pytest.mark.parametrize(
    ("suites", "taken"),
    [
        ("ECDHE-ECDSA-AES128-SHA", False),
        ("ECDHE-ECDSA-AES256-SHA384", False),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
    ],
)
def test_suites_that_rfc_9325_advises_against_are_refused(secure, certificates, suites: str, taken: bool) -> None:
    ours = certificates.issue("modality")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ours.trusted)
    context.load_cert_chain(ours.certificate, ours.key)
    context.set_ciphers(suites)
    with socket.create_connection(("127.0.0.1", secure.tls_port)) as connection:
        if taken:
            context.wrap_socket(connection).close()
        else:
            with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
                context.wrap_socket(connection)


def test_our_contexts_offer_no_suite_without_authenticated_encryption(certificates) -> None:
    tls = certificates.issue("node")
    for context in (tls.listening(), tls.calling(), tls.serving_https(), tls.calling_https()):
        assert all(cipher["aead"] for cipher in context.get_ciphers())


def test_somebody_who_knocks_and_leaves(secure, refusals, wait_until) -> None:
    socket.create_connection(("127.0.0.1", secure.tls_port)).close()
    wait_until(lambda: refusals)
    assert refusals == [CallerRefusal("", "127.0.0.1", "it hung up in the TLS handshake")]


def test_calling_by_tls_without_a_certificate_of_our_own() -> None:
    with pytest.raises(
        TLSConfigError, match=r"is to be called by TLS, but we have no certificate; give one under \[tls\]"
    ):
        StorageClient("TESTER").echo(peer(104))


def test_files_that_cannot_be_used(certificates, tmp_path: Path) -> None:
    good = certificates.issue("node")
    other = certificates.issue("other")
    text = tmp_path / "text.pem"
    text.write_text("no certificate at all")
    locked = tmp_path / "locked.key"
    key = ec.generate_private_key(ec.SECP256R1())
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    missing = tmp_path / "missing.pem"
    bad = [
        (TLSConfig(missing, good.key, good.trusted), "missing.pem cannot be read: No such file or directory"),
        (TLSConfig(text, good.key, good.trusted), "text.pem holds no certificate in PEM"),
        (TLSConfig(good.certificate, text, good.trusted), "text.pem holds no private key in PEM"),
        (TLSConfig(good.certificate, other.key, good.trusted), "other.key does not belong to the certificate"),
        (TLSConfig(good.certificate, locked, good.trusted), "locked.key has a password"),
        (TLSConfig(good.certificate, good.key, text), "text.pem holds no certificate in PEM"),
    ]
    for config, words in bad:
        for make in (config.listening, config.calling):
            with pytest.raises(TLSConfigError, match=words) as caught:
                make()
            assert not caught.value.worth_retrying


def test_the_end_of_our_certificate_is_known(certificates) -> None:
    left = certificates.issue("node", timedelta(days=30)).expires_at() - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)


# DCMTK's own programs: pynetdicom installs some of the same names beside Python.
PATH = os.pathsep.join(f for f in os.environ.get("PATH", "").split(os.pathsep) if Path(f) != Path(sys.prefix, "bin"))


def dcmtk(tool: str) -> str:
    found = shutil.which(tool, path=PATH)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"not installed: {tool} (Debian package dcmtk)")
        pytest.skip(f"not installed: {tool} (Debian package dcmtk)")
    return found


def tls_options(config: TLSConfig) -> list[str]:
    return ["+tls", str(config.key), str(config.certificate), "+cf", str(config.trusted)]


@pytest.mark.pacs
def test_dcmtk_sends_to_us_by_tls(secure, certificates, receiver, tmp_path: Path, make_object: MakeObject) -> None:
    file = tmp_path / "image.dcm"
    image = make_object()
    image.save_as(file, enforce_file_format=True)
    address = ["-aec", "NODE", "127.0.0.1", str(secure.tls_port)]
    modality = tls_options(certificates.issue("modality"))
    subprocess.run([dcmtk("echoscu"), *modality, *address], check=True, timeout=60)
    subprocess.run([dcmtk("storescu"), *modality, *address, str(file)], check=True, timeout=60)
    assert [r.sop_instance_uid for r in receiver.received] == [image.SOPInstanceUID]
    slices = make_object(sop_class=BreastTomosynthesisImageStorage)
    slices.save_as(tmp_path / "tomosynthesis.dcm", enforce_file_format=True)
    subprocess.run(
        [dcmtk("storescu"), "-R", *modality, *address, str(tmp_path / "tomosynthesis.dcm")], check=True, timeout=60
    )
    assert [r.sop_instance_uid for r in receiver.received] == [image.SOPInstanceUID, slices.SOPInstanceUID]
    anonymous = subprocess.run(
        [dcmtk("echoscu"), "+tla", "+cf", str(certificates.trusted), *address],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert anonymous.returncode != 0


@pytest.mark.pacs
def test_we_send_to_dcmtk_by_tls(certificates, tmp_path: Path, make_object: MakeObject, wait_until) -> None:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    kept = tmp_path / "kept"
    kept.mkdir()
    scp = subprocess.Popen([dcmtk("storescp"), *tls_options(certificates.issue("pacs")), "-od", str(kept), str(port)])
    try:
        client = StorageClient("TESTER", tls=certificates.issue("node"))
        destination = Destination("pacs", "PACS", "127.0.0.1", port, tls=True)
        wait_until(lambda: listens(port))
        image = make_object()
        [sending] = client.send([image], destination)
        assert sending.error is None
        [file] = kept.iterdir()
        assert dcmread(file).SOPInstanceUID == image.SOPInstanceUID
    finally:
        scp.terminate()
        scp.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0
