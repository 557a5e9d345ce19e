"""What people are told of a node: by a real mail server and a real webhook, of what a real audit trail says."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from mammoscope.network import PeerUnreachableError
from mammoscope.node.audit.recorder import audit_line
from mammoscope.node.audit.trail import AuditTrail
from mammoscope.node.events import ReportParked, ReportSent, SendingFailed, StudyFailed
from mammoscope.node.notices.notice import Notice, Watch
from mammoscope.node.notices.notifier import Notifier, notifiers
from mammoscope.settings import NoticeSettings

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
FAILED = StudyFailed(study="1.2.3", reason="No image can be read.", at=AT)
PARKED = ReportParked(study="1.2.4", report=2, destination="pacs", tries=3, reasons=("it refused it.",), at=AT)
SENDING = {"study": "1.2.5", "report": 1, "destination": "pacs"}
TROUBLE = SendingFailed(**SENDING, tries=1, reason="pacs cannot be reached", at=AT)
SENT = ReportSent(**SENDING, sop_instances=("1",), tries=2, seconds=1.0, at=AT + timedelta(minutes=20))


def seen(watch: Watch, *events) -> list[Notice]:
    return [notice for event in events for notice in watch.see(json.loads(json.dumps(audit_line(event))))]


def test_failed_studies_and_parked_results_are_told_with_what_to_do():
    failed, parked = seen(Watch(15), FAILED, PARKED)
    assert (failed.kind, failed.study) == ("study failed", "1.2.3")
    assert failed.words == (
        "Study 1.2.3 gave no results: No image can be read. Its images were put aside; 'mammoscope node retry 1.2.3'"
        " reads it again."
    )
    assert (parked.kind, parked.destination) == ("results not sent", "pacs")
    assert "Report 2 of study 1.2.4 was not sent to 'pacs' in full: it refused it." in parked.words
    assert "mammoscope node resend 1.2.4" in parked.words


def test_a_destination_is_down_after_its_time_once_and_then_back():
    watch = Watch(15)
    assert seen(watch, TROUBLE, TROUBLE) == []
    assert list(watch.due(AT + timedelta(minutes=14))) == []
    [down] = watch.due(AT + timedelta(minutes=15))
    assert (down.kind, down.destination) == ("destination down", "pacs")
    assert "since 2026-03-04 05:06 UTC: pacs cannot be reached." in down.words
    watch = Watch(15, json.loads(json.dumps(watch.state)))  # a restart
    assert list(watch.due(AT + timedelta(hours=1))) == []
    [back] = seen(watch, SENT)
    assert back.kind == "destination back"
    assert seen(watch, SENT) == []


def test_one_that_was_away_for_less_is_not_told_of():
    watch = Watch(15)
    assert seen(watch, TROUBLE, SENT) == []
    assert list(watch.due(AT + timedelta(hours=1))) == []


class Mailbox(Message):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list = []

    def handle_message(self, message) -> None:
        self.mails.append(message)


def test_what_happens_reaches_mail_and_webhook(tmp_path: Path, webhook, free_port: int, wait_until):
    mailbox, trail = Mailbox(), AuditTrail(tmp_path)
    trail.append([audit_line(PARKED)])  # before anybody asked to be told
    settings = NoticeSettings(
        webhook=f"{webhook.url}/hook",
        smtp=f"smtp://127.0.0.1:{free_port}",
        mail_from="node@a.example",
        mail_to=("team@a.example",),
    )
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port)
    controller.start()
    try:
        made = notifiers(settings, trail, tmp_path, "READER", None)
        for notifier in made:
            notifier.start()
        trail.append([audit_line(FAILED)])
        wait_until(lambda: mailbox.mails and webhook.got)
        for notifier in made:
            notifier.stop()
    finally:
        controller.stop()
    [mail], [(_, _, document)] = mailbox.mails, webhook.got
    assert mail["Subject"] == "Mammoscope READER: study failed"
    assert "Study 1.2.3 gave no results" in mail.get_payload(decode=True).decode()
    assert document["text"].startswith("Mammoscope READER: study failed\nStudy 1.2.3 gave no results")
    assert document["notices"] == [
        {"kind": "study failed", "at": AT.isoformat(), "words": document["notices"][0]["words"], "study": "1.2.3"}
    ]


def test_nothing_is_lost_while_the_channel_is_away_or_the_node_is_down(tmp_path: Path, wait_until):
    trail, told, tries = AuditTrail(tmp_path), [], []

    def tell(notices) -> None:
        tries.append(len(notices))
        if len(tries) < 3:
            raise PeerUnreachableError("away")
        told.extend(notices)

    def notifier() -> Notifier:
        return Notifier("mail", trail, tmp_path, tell, 15, quiet_seconds=0.05)

    with notifier():
        trail.append([audit_line(FAILED)])
        wait_until(lambda: told)
    assert [notice.kind for notice in told] == ["study failed"]
    trail.append([audit_line(PARKED), {"event": "ReportParked", "damaged": True}])
    with notifier():  # the next start
        wait_until(lambda: len(told) > 1)
    assert [notice.kind for notice in told] == ["study failed", "results not sent"]
    with notifier():
        pass
    assert len(told) == 2


def test_what_happens_at_once_is_told_in_one_message(tmp_path: Path, wait_until):
    trail, told = AuditTrail(tmp_path), []
    with Notifier("mail", trail, tmp_path, told.append, 15, quiet_seconds=0.05):
        trail.append([audit_line(FAILED)] * 50)
        wait_until(lambda: told)
    assert [len(notices) for notices in told] == [50]


def test_by_default_nobody_is_told(tmp_path: Path):
    assert notifiers(NoticeSettings(), AuditTrail(tmp_path), tmp_path, "READER", None) == []
