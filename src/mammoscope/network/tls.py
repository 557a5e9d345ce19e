"""`TLSConfig`: who we are and whom we trust, for DICOM over mutual TLS and for https."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from mammoscope.network.errors import TLSConfigError

TLS_1_2_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy and authenticated encryption only (RFC 9325 section 4.2); those of TLS 1.3 are all of that kind."""


@dataclass(frozen=True, slots=True)
class TLSConfig:
    """The files of one party to TLS (DICOM PS3.15 B.12, which follows BCP 195: TLS 1.2 or newer).

    Parameters
    ----------
    certificate, key
        Our own, PEM; the certificate may be followed by those between it and its root. The key has no password.
    trusted
        The certificates, PEM, one of which must have signed each peer's.
    """

    certificate: Path
    key: Path
    trusted: Path

    def listening(self) -> ssl.SSLContext:
        """Make a context for DICOM connections to us: the caller must show a certificate that we trust.

        Raises
        ------
        TLSConfigError
            If a file is missing or no PEM, or the key does not fit the certificate.
        """
        context = self._own(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        self._trust(context)
        return context

    def calling(self) -> ssl.SSLContext:
        """Make a context for DICOM connections from us: mutual, and bound to no host name.

        A DICOM peer is known by who signed its certificate; a hospital's seldom name the host (PS3.15 B.12 does not
        ask for it).

        Raises
        ------
        TLSConfigError
            As `listening`.
        """
        context = self._own(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        self._trust(context)
        return context

    def serving_https(self) -> ssl.SSLContext:
        """Make a context for web clients of ours, who show a token and need no certificate.

        Raises
        ------
        TLSConfigError
            As `listening`.
        """
        return self._own(ssl.PROTOCOL_TLS_SERVER)

    def calling_https(self) -> ssl.SSLContext:
        """Make a context for web servers: host name checked, the system's roots trusted too, our certificate at hand.

        Raises
        ------
        TLSConfigError
            As `listening`.
        """
        context = self._own(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
        self._trust(context)
        return context

    def expires_at(self) -> datetime:
        """Tell until when our own certificate is valid, in UTC.

        Raises
        ------
        TLSConfigError
            If the certificate is missing or no PEM.
        """
        return _read_certificate(self.certificate).not_valid_after_utc

    def key_exposure(self) -> str | None:
        """Say which other accounts may read or change our private key; ``None`` if none may.

        A key that belongs to root may be read by a group, as where a distribution keeps keys for several services.

        Raises
        ------
        TLSConfigError
            If there is no such file.
        """
        try:
            status = self.key.stat()
        except OSError as error:
            raise TLSConfigError(f"{self.key} cannot be read: {error.strerror}; check the [tls] settings") from None
        allowed = 0o040 if status.st_uid == 0 and status.st_gid != 0 else 0
        if status.st_mode & 0o077 & ~allowed == 0:
            return None
        return (
            f"the private key {self.key} can be read or changed by other accounts (mode {status.st_mode & 0o777:04o});"
            " chmod 600 it, and renew it if others may have read it"
        )

    def _own(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(TLS_1_2_SUITES)
        certificate = _read_certificate(self.certificate)
        now = datetime.now(UTC)
        if certificate.not_valid_after_utc <= now:
            raise TLSConfigError(
                f"the certificate {self.certificate} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it"
            )
        if certificate.not_valid_before_utc > now:
            raise TLSConfigError(
                f"the certificate {self.certificate} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d};"
                " check the clock of this machine"
            )
        if b"PRIVATE KEY" not in _read(self.key):
            raise TLSConfigError(f"{self.key} holds no private key in PEM; name the key of our certificate")
        try:
            context.load_cert_chain(self.certificate, self.key, password=self._no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise TLSConfigError(
                    f"the key {self.key} does not belong to the certificate {self.certificate}"
                ) from None
            raise TLSConfigError(f"the key {self.key} is damaged or of no kind that TLS can use") from None
        return context

    def _no_password(self) -> str:
        raise TLSConfigError(f"the key {self.key} has a password; store it without one, readable by the node only")

    def _trust(self, context: ssl.SSLContext) -> None:
        _read_certificate(self.trusted)
        try:
            context.load_verify_locations(self.trusted)
        except ssl.SSLError:
            raise TLSConfigError(f"{self.trusted} holds a damaged certificate; export it again as PEM") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TLSConfigError(f"{file} cannot be read: {error.strerror}; check the [tls] settings") from None


def _read_certificate(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(file))
    except ValueError:
        raise TLSConfigError(f"{file} holds no certificate in PEM; convert it, for example with openssl x509") from None
