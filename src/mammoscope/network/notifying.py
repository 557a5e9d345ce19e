"""Telling people: a JSON document posted to a web address, or a mail by SMTP (RFC 5321, RFC 3207 for STARTTLS)."""

import smtplib
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import urlsplit

import httpx

from mammoscope.network.errors import MessageRefusedError, PeerUnreachableError, WebStatusError

SECONDS = 20.0
"""How long a server may take for each answer."""


class WebhookClient:
    """Posts documents to one address.

    Parameters
    ----------
    token
        Sent as a bearer token (RFC 6750).
    tls
        Whom to trust; ``None`` for those that this machine trusts.
    """

    def __init__(self, url: str, token: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._url = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(headers=headers, timeout=SECONDS, verify=tls if tls is not None else True)

    def __str__(self) -> str:
        # An address of this kind often holds a secret behind the host.
        parts = urlsplit(self._url)
        return f"the webhook at {parts.hostname}"

    def send(self, document: Mapping[str, object]) -> None:
        """Post one document as JSON.

        Raises
        ------
        PeerUnreachableError
            If there is no answer.
        WebStatusError
            If the answer is an error.
        """
        try:
            answer = self._client.post(self._url, json=document)
        except httpx.HTTPError as error:
            raise PeerUnreachableError(f"{self} cannot be reached ({type(error).__name__})") from None
        if not answer.is_success:
            raise WebStatusError(f"{self} answered with status {answer.status_code}", answer.status_code)

    def close(self) -> None:
        """End the connection."""
        self._client.close()


@dataclass(frozen=True, slots=True)
class MailServer:
    """A mail server, and who we are there.

    Parameters
    ----------
    address
        ``smtp://host:port``, ``smtp+starttls://host:port`` or ``smtps://host:port``.
    user, password
        What we log in with; ``None`` where it asks for nothing.
    """

    address: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"the mail server {self.address}"


def send_mail(
    server: MailServer,
    sender: str,
    recipients: Sequence[str],
    subject: str,
    text: str,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Send one mail of plain text.

    Parameters
    ----------
    tls
        Whom to trust; ``None`` for those that this machine trusts.

    Raises
    ------
    PeerUnreachableError
        If the server cannot be reached or broke off.
    MessageRefusedError
        If it did not take the mail for some of the recipients, or did not let us in.
    """
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, ", ".join(recipients), subject
    mail["Date"], mail["Message-ID"] = formatdate(localtime=True), make_msgid(domain=sender.partition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer by an absence notice
    mail.set_content(text)
    with _in_words(server), _let_in(server, tls) as connection:
        refused = connection.send_message(mail)
    if refused:
        raise MessageRefusedError(f"{server} did not take the mail for {len(refused)} of {len(recipients)} recipients")


def check_mail(server: MailServer, tls: ssl.SSLContext | None = None) -> None:
    """See that a mail server is there and lets us in, and send nothing.

    Raises
    ------
    PeerUnreachableError, MessageRefusedError
        As `send_mail` does.
    """
    with _in_words(server), _let_in(server, tls) as connection:
        connection.noop()


@contextmanager
def _in_words(server: MailServer) -> Iterator[None]:
    """Tell what goes wrong as an error of ours, without the server's own words."""
    try:
        yield
    except smtplib.SMTPServerDisconnected:
        raise PeerUnreachableError(f"{server} broke off") from None
    except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused, smtplib.SMTPNotSupportedError) as error:
        code = getattr(error, "smtp_code", None)
        raise MessageRefusedError(f"{server} did not take the mail ({code or type(error).__name__})") from None
    except (OSError, smtplib.SMTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise PeerUnreachableError(f"{server} cannot be reached ({reason})") from None


@contextmanager
def _let_in(server: MailServer, tls: ssl.SSLContext | None) -> Iterator[smtplib.SMTP]:
    with _connected(server, tls or ssl.create_default_context()) as connection:
        if server.user is not None and server.password is not None:
            connection.login(server.user, server.password)
        yield connection


def _connected(server: MailServer, context: ssl.SSLContext) -> smtplib.SMTP:
    parts = urlsplit(server.address)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"{server.address} is no address of a mail server")
    if parts.scheme == "smtps":
        return smtplib.SMTP_SSL(parts.hostname, parts.port, timeout=SECONDS, context=context)
    connection = smtplib.SMTP(parts.hostname, parts.port, timeout=SECONDS)
    if parts.scheme == "smtp+starttls":
        try:
            connection.starttls(context=context)
        except BaseException:
            connection.close()
            raise
    return connection
