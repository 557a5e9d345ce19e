"""`Notifier`: follows the audit trail and tells by one channel, with nothing lost by a restart or a server away."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from mammoscope.lifecycle import Running
from mammoscope.network import MailServer, NetworkError, WebhookClient, send_mail
from mammoscope.network.tls import TLSConfig
from mammoscope.node.audit.trail import AuditTrail, Position
from mammoscope.node.notices.notice import Notice, Watch
from mammoscope.node.storage.durable_files import write_whole
from mammoscope.settings import NoticeSettings

QUIET_SECONDS = 30.0
"""Between two messages, and before a channel that failed is tried again: what happens meanwhile is told together."""
LOOK_SECONDS = 1.0
_BATCH = 256

Tell = Callable[[Sequence[Notice]], None]
"""Tells several notices in one message; raises `NetworkError` if that fails."""

log = structlog.get_logger(__name__)


class Notifier(Running):
    """Tells by one channel what the trail says from now on.

    How far it came is kept beside the trail, so that a restart resumes from there. A message may come twice after a
    crash; none is left out.

    Parameters
    ----------
    channel
        What the log calls it, and the name of its file.
    trail, folder
        The trail and where it lies.
    tell
        The channel.
    down_minutes
        See `Watch`.
    """

    def __init__(
        self,
        channel: str,
        trail: AuditTrail,
        folder: Path,
        tell: Tell,
        down_minutes: float,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        self._channel = channel
        self._trail = trail
        self._file = folder / f"notices-{channel}"
        self._tell = tell
        self._down_minutes = down_minutes
        self._quiet_seconds = quiet_seconds
        self._position, self._state = self._load()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"notices by {channel}", daemon=True)
        self._is_down = False

    def start(self) -> None:
        """Start to follow the trail."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was not told yet is told after the next start."""
        self._stopping.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            told = self._go_on()
            self._stopping.wait(self._quiet_seconds if told or self._is_down else LOOK_SECONDS)

    def _go_on(self) -> bool:
        """Look at the next lines, and tell what they give reason to; return whether there was something to tell."""
        try:
            lines = list(self._trail.lines_after(self._position, _BATCH))
            watch = Watch(self._down_minutes, self._state)
            notices = [notice for line, _ in lines for notice in _seen(watch, line)]
            notices += watch.due(datetime.now(UTC))
            if notices:
                self._tell(notices)
            if lines or notices:
                position = lines[-1][1] if lines else self._position
                write_whole(self._file, json.dumps({**asdict(position), **watch.state}) + "\n")
                self._position, self._state = position, watch.state
        except (NetworkError, OSError) as error:
            if not self._is_down:
                log.warning("notices not sent", channel=self._channel, reason=str(error))
            self._is_down = True
            return False
        if self._is_down and notices:
            log.info("notices sent again", channel=self._channel)
        self._is_down = self._is_down and not notices
        return bool(notices)

    def _load(self) -> tuple[Position, dict[str, Any]]:
        try:
            said = json.loads(self._file.read_bytes())
            Watch(0.0, said)
            return Position(str(said["file"]), int(said["offset"])), said
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # A channel named for the first time is told what happens from now on.
            return self._trail.end(), {}


def notifiers(
    settings: NoticeSettings, trail: AuditTrail, folder: Path, node: str, tls: TLSConfig | None
) -> list[Notifier]:
    """One for each channel of the settings.

    Parameters
    ----------
    node
        What messages call us.
    """
    context = tls.calling_https() if tls is not None else None
    made = []
    if settings.webhook is not None:
        token = settings.webhook_token.get_secret_value() if settings.webhook_token is not None else None
        client = WebhookClient(settings.webhook, token, context)

        def post(notices: Sequence[Notice]) -> None:
            client.send(webhook_document(node, notices))

        made.append(Notifier("webhook", trail, folder, post, settings.down_minutes))
    if settings.smtp is not None and settings.mail_from is not None:
        server, sender = mail_server_of(settings), settings.mail_from

        def mail(notices: Sequence[Notice]) -> None:
            send_mail(server, sender, settings.mail_to, subject(node, notices), text(notices), context)

        made.append(Notifier("mail", trail, folder, mail, settings.down_minutes))
    return made


def mail_server_of(settings: NoticeSettings) -> MailServer:
    """The mail server of the settings, which must name one."""
    assert settings.smtp is not None
    password = settings.smtp_password.get_secret_value() if settings.smtp_password is not None else None
    return MailServer(settings.smtp, settings.smtp_user, password)


def webhook_document(node: str, notices: Sequence[Notice]) -> dict[str, object]:
    """What a webhook is posted: ``text``, which chat programs show, and each notice for programs."""
    lines = "\n".join(notice.words for notice in notices)
    return {
        "text": f"{subject(node, notices)}\n{lines}",
        "node": node,
        "notices": [notice.document() for notice in notices],
    }


def subject(node: str, notices: Sequence[Notice]) -> str:
    """One line that says what it is about."""
    kinds = ", ".join(dict.fromkeys(notice.kind for notice in notices))
    return f"Mammoscope {node}: {kinds}" + (f" ({len(notices)} notices)" if len(notices) > 1 else "")


def text(notices: Sequence[Notice]) -> str:
    """The words of a mail."""
    return "\n\n".join(f"{notice.at[:19]}  {notice.kind}\n{notice.words}" for notice in notices) + "\n"


def _seen(watch: Watch, line: bytes) -> list[Notice]:
    try:
        return list(watch.see(json.loads(line)))
    except (ValueError, KeyError, TypeError, IndexError):
        return []  # a line that someone damaged: the trail's own check tells of it
