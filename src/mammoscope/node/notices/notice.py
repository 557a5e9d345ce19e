"""`Watch`: sees in the lines of the audit trail what a person must be told."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mammoscope.untrusted_text import one_line

LONGEST_REASON = 500
"""Characters of a reason that a notice shows."""


class NoticeKind(StrEnum):
    """Why somebody is told."""

    STUDY_FAILED = "study failed"
    RESULTS_PARKED = "results not sent"
    DESTINATION_DOWN = "destination down"
    DESTINATION_BACK = "destination back"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell.

    Parameters
    ----------
    at
        When it happened, ISO 8601.
    words
        What happened and what to do, in one or two sentences.
    study, destination
        UID and name, where it is about one.
    """

    kind: NoticeKind
    at: str
    words: str
    study: str | None = None
    destination: str | None = None

    def document(self) -> dict[str, object]:
        """As a program is told it."""
        facts: dict[str, object] = {"kind": str(self.kind), "at": self.at, "words": self.words}
        if self.study is not None:
            facts["study"] = self.study
        if self.destination is not None:
            facts["destination"] = self.destination
        return facts


class Watch:
    """Which destinations have failed since when, and of which it was told that they are down.

    Parameters
    ----------
    down_minutes
        For how long nothing could be sent to a destination that is down.
    state
        `Watch.state` of an earlier one to go on from.
    """

    def __init__(self, down_minutes: float, state: Mapping[str, Any] | None = None) -> None:
        self._down = timedelta(minutes=down_minutes)
        said = state or {}
        self._failing: dict[str, tuple[datetime, str]] = {
            str(name): (datetime.fromisoformat(since), str(reason))
            for name, (since, reason) in dict(said.get("failing", {})).items()
        }
        self._told: set[str] = set(map(str, said.get("told", ())))

    @property
    def state(self) -> dict[str, Any]:
        """What to keep of it, as JSON takes it."""
        failing = {name: [since.isoformat(), reason] for name, (since, reason) in self._failing.items()}
        return {"failing": failing, "told": sorted(self._told)}

    def see(self, line: Mapping[str, Any]) -> Iterator[Notice]:
        """Yield what one line of the trail gives reason to tell.

        Raises
        ------
        KeyError, ValueError, TypeError
            If the line is damaged.
        """
        match line["event"]:
            case "StudyFailed":
                yield _study_failed(line)
            case "ReportParked":
                yield _parked(line)
            case "SendingFailed":
                self._failing.setdefault(
                    str(line["destination"]), (datetime.fromisoformat(line["at"]), _reason(line["reason"]))
                )
            case "ReportSent":
                name = str(line["destination"])
                self._failing.pop(name, None)
                if name in self._told:
                    self._told.discard(name)
                    words = f"The destination '{name}' takes results again; what waited for it is being sent."
                    yield Notice(NoticeKind.DESTINATION_BACK, str(line["at"]), words, destination=name)

    def due(self, now: datetime) -> Iterator[Notice]:
        """Yield each destination that has been down for long enough by now, once."""
        for name, (since, reason) in self._failing.items():
            if name not in self._told and now - since >= self._down:
                self._told.add(name)
                words = (
                    f"Nothing could be sent to the destination '{name}' since {since:%Y-%m-%d %H:%M} UTC: {reason}."
                    " It is tried again by itself; 'mammoscope node status' shows what waits."
                )
                yield Notice(NoticeKind.DESTINATION_DOWN, now.isoformat(), words, destination=name)


def _study_failed(line: Mapping[str, Any]) -> Notice:
    study = str(line["study"])
    words = (
        f"Study {study} gave no results: {_reason(line['reason'])}. Its images were put aside; 'mammoscope node retry"
        f" {study}' reads it again."
    )
    return Notice(NoticeKind.STUDY_FAILED, str(line["at"]), words, study=study)


def _parked(line: Mapping[str, Any]) -> Notice:
    study, name = str(line["study"]), str(line["destination"])
    why = _reason(line["reasons"][0])
    words = (
        f"Report {int(line['report'])} of study {study} was not sent to '{name}' in full: {why}."
        f" 'mammoscope node resend {study}' sends it again."
    )
    return Notice(NoticeKind.RESULTS_PARKED, str(line["at"]), words, study=study, destination=name)


def _reason(text: object) -> str:
    return one_line(str(text), LONGEST_REASON).rstrip(".")
