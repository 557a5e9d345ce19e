"""A small mammography object, a storage service that keeps what it receives in a list, an authority for TLS."""

import ipaddress
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom import FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from mammoscope.network import Destination, ObjectRefusal, Receipt, ReceivedObject, StorageService, TLSConfig

MG_FOR_PRESENTATION = DigitalMammographyXRayImageStorageForPresentation


def mammogram_object(
    study: str | None = None, sop_class: UID = DigitalMammographyXRayImageStorageForPresentation
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=False)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = study or generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Doe^Jane", "P1", "MG"
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.set_pixel_data(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64), "MONOCHROME2", 12)
    return dataset


class Receiver:
    """Keeps what arrives: the object and the bytes of its file."""

    def __init__(self) -> None:
        self.received: list[ReceivedObject] = []
        self.files: list[bytes] = []
        self.error: Exception | None = None

    def __call__(self, received: ReceivedObject) -> Receipt:
        if self.error:
            raise self.error
        self.received.append(received)
        self.files.append(received.path.read_bytes())
        return Receipt.STORED


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def refused() -> list[ObjectRefusal]:
    return []


@pytest.fixture
def service(tmp_path: Path, receiver: Receiver, refused: list[ObjectRefusal]) -> Iterator[StorageService]:
    with StorageService("NODE", tmp_path / "incoming", receiver, on_object_refused=refused.append) as service:
        yield service


@pytest.fixture
def destination(service: StorageService) -> Destination:
    return Destination("node", "NODE", "127.0.0.1", service.port)


@pytest.fixture
def make_object() -> Callable[..., FileDataset]:
    return mammogram_object


class Authority:
    """Signs certificates for 127.0.0.1; `name.pem`, `name.key` and its own `NAME-ca.pem` lie in a folder."""

    def __init__(self, folder: Path, name: str = "hospital") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.trusted = folder / f"{name}-ca.pem"
        certificate = self._sign(self._name, self._key, timedelta(days=1), authority=True)
        self.trusted.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, valid: timedelta = timedelta(days=1)) -> TLSConfig:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, valid)
        tls = TLSConfig(self._folder / f"{name}.pem", self._folder / f"{name}.key", self.trusted)
        tls.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        tls.key.write_bytes(pem_key(key))
        return tls

    def trusting_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.trusted))

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid: timedelta, *, authority: bool = False
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + valid)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            builder = builder.add_extension(loopback, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def pem_key(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.fixture
def certificates(tmp_path: Path) -> Authority:
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)

    return wait


@pytest.fixture
def wait_until(until: Callable[..., None]) -> Callable[..., None]:
    return until
