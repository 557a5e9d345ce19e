"""Mail through a real SMTP server, and a webhook through a real web server."""

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message
from aiosmtpd.smtp import AuthResult, LoginPassword

from mammoscope.network import (
    MailServer,
    MessageRefusedError,
    PeerUnreachableError,
    WebhookClient,
    WebStatusError,
    send_mail,
)


class Mailbox(Message):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list = []

    def handle_message(self, message) -> None:
        self.mails.append(message)

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802, ARG002
        if address.startswith("nobody"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"


def check_login(server, session, envelope, mechanism, auth_data) -> AuthResult:  # noqa: ARG001
    assert isinstance(auth_data, LoginPassword)
    right = (auth_data.login, auth_data.password) == (b"node", b"secret")
    return AuthResult(success=right, handled=right)


@pytest.fixture
def start_server(free_ports):
    running = []

    def start(**options) -> tuple[int, Mailbox]:
        mailbox, [port] = Mailbox(), free_ports(1)
        running.append(Controller(mailbox, hostname="127.0.0.1", port=port, **options))
        running[-1].start()
        return port, mailbox

    yield start
    for controller in running:
        controller.stop()


def test_a_mail_arrives_as_it_was_written(start_server):
    port, mailbox = start_server()
    server = MailServer(f"smtp://127.0.0.1:{port}")
    send_mail(server, "node@a.example", ["x@a.example", "y@a.example"], "Mammoscope: study failed", "Study 1.2 – no\n")
    [mail] = mailbox.mails
    assert (mail["From"], mail["To"]) == ("node@a.example", "x@a.example, y@a.example")
    assert mail["Subject"] == "Mammoscope: study failed"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_payload(decode=True).decode().replace("\r\n", "\n") == "Study 1.2 – no\n"


def test_what_a_mail_server_refuses_is_said_without_its_words(start_server):
    port, mailbox = start_server()
    server = MailServer(f"smtp://127.0.0.1:{port}")
    with pytest.raises(MessageRefusedError, match="for 1 of 2 recipients"):
        send_mail(server, "node@a.example", ["x@a.example", "nobody@a.example"], "s", "t")
    assert len(mailbox.mails) == 1
    with pytest.raises(MessageRefusedError, match="did not take the mail"):
        send_mail(server, "node@a.example", ["nobody@a.example"], "s", "t")


def test_login_goes_over_tls_only_to_whom_we_trust(start_server, certificates):
    serving = certificates.issue("mail").serving_https()
    serving.verify_mode = 0
    options = {"tls_context": serving, "require_starttls": True, "auth_required": True, "authenticator": check_login}
    port, mailbox = start_server(**options)
    address, trusted = f"smtp+starttls://127.0.0.1:{port}", certificates.trusting_context()
    send_mail(MailServer(address, "node", "secret"), "node@a.example", ["x@a.example"], "s", "t", trusted)
    assert len(mailbox.mails) == 1
    with pytest.raises(MessageRefusedError, match="535"):
        send_mail(MailServer(address, "node", "wrong"), "node@a.example", ["x@a.example"], "s", "t", trusted)
    with pytest.raises(PeerUnreachableError, match="cannot be reached"):
        send_mail(MailServer(address, "node", "secret"), "node@a.example", ["x@a.example"], "s", "t")
    assert "secret" not in repr(MailServer(address, "node", "secret"))


def test_a_mail_server_that_is_away_is_said_so(free_ports):
    [port] = free_ports(1)
    with pytest.raises(PeerUnreachableError, match="cannot be reached"):
        send_mail(MailServer(f"smtp://127.0.0.1:{port}"), "a@a.example", ["x@a.example"], "s", "t")


def test_a_document_is_posted_with_our_token(webhook):
    client = WebhookClient(f"{webhook.url}/secret/path", "token")
    client.send({"text": "Study 1.2 failed"})
    client.close()
    assert webhook.got == [("/secret/path", "Bearer token", {"text": "Study 1.2 failed"})]


def test_errors_of_a_webhook_do_not_name_its_address(webhook, free_ports):
    with pytest.raises(WebStatusError, match=r"the webhook at 127\.0\.0\.1 answered with status 403"):
        WebhookClient(f"{webhook.url}/secret/closed").send({})
    [port] = free_ports(1)
    with pytest.raises(PeerUnreachableError, match=r"^the webhook at 127\.0\.0\.1 cannot be reached \(ConnectError\)$"):
        WebhookClient(f"http://127.0.0.1:{port}/secret").send({})
