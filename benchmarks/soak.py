"""Soak: many objects, many kills, a destination that is down half the time; nothing lost, nothing twice.

    python benchmarks/soak.py [--objects 2000] [--kills 30] [--seed 1] [--seconds-between-kills 14]
    python benchmarks/soak.py --workers 2 --database postgres [...]

A modality sends small synthetic mammograms in shuffled order, some again later, and again whatever was not
acknowledged. The node is killed (-9) at random moments, some while it starts. The destination is down half the time,
by turns: nothing listens, it rejects the association, it answers 0xA700. When all is sent the destination stays up,
and the node has until nothing moves any more. With several workers, which PostgreSQL lets share the work, each kill
takes one of them at random; a helper comes back some seconds later, under another name.

What is counted, seen from outside only (`judge`):

lost
    an image acknowledged to the modality that the last CAD SR of its study at the destination does not refer to.
unanswered
    a study with an acknowledged image and no CAD SR.
twice
    one and the same statement stored twice: a second CAD SR of a study that refers to the same images as an earlier
    one; one SOP Instance UID with two contents; or an object that was acknowledged and came again without an excuse.
    There are two excuses. The node was killed while the association that carried the object was open, or within two
    seconds of its release: no one can write down an acknowledgement in the moment of getting it. Or the destination
    itself broke that association, and the object was the last that it had acknowledged there.
out of place
    a mark in a CAD SR that differs by more than half a pixel from the rectangle drawn, or is missing, or too many. Left
    out are images that the node gave up, as its log says, because it was killed each time that it read them.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from node_under_test import (
    Arrival,
    CountingDestination,
    NodeProcess,
    Progress,
    SmallMammogram,
    SmallMammograms,
    destination_section,
    leaks,
    postgres,
    resident_megabytes,
    send,
    wait_while_it_moves,
)
from pydicom import Dataset
from pydicom.uid import MammographyCADSRStorage
from rich.console import Console
from rich.table import Table

SETTLE_SECONDS = 2.0
TOLERANCE_PIXELS = 0.5
LONGEST_GRACE_SECONDS = 3.0
DEAD_AFTER_SECONDS = 15.0
"""After so long without a beat the others take over a worker's work; the node's own default is longer."""
OUTLINE = "111041"
"""DICOM PS3.16 DCM code of an outline."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Plan:
    """What a soak does.

    Parameters
    ----------
    spread
        An object is sent at the place of its study plus up to so many studies: 1 keeps a study together.
    resends
        Share of the objects that are sent once more, later.
    still_seconds
        After everything was sent the node has as long as anything moves, and is given up when nothing did for so long.
    """

    objects: int = 2000
    kills: int = 30
    seed: int = 1
    seconds_between_kills: float = 14.0
    spread: float = 12.0
    resends: float = 0.2
    quiet_seconds: float = 2.0
    still_seconds: float = 300.0
    workers: int = 1
    database: str | None = None


@dataclass(slots=True)
class Story:
    """What happened, as far as it can be seen from outside."""

    images: list[SmallMammogram]
    acknowledged: set[str] = field(default_factory=set)
    sent: int = 0
    unanswered_sends: int = 0
    kills: list[float] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    refusals: int = 0
    megabytes: list[float] = field(default_factory=list)
    """Resident memory of the node's own process, before each kill and at the end."""
    given_up: set[str] = field(default_factory=set)
    leaks: list[str] = field(default_factory=list)
    """Files of the node, other than DICOM objects, that hold a patient's word."""
    exit_codes: list[int] = field(default_factory=list)
    seconds_down: float = 0.0
    seconds_sending: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `judge` found; every tuple is empty when all is well."""

    lost: tuple[str, ...]
    unanswered: tuple[str, ...]
    twice: tuple[str, ...]
    out_of_place: tuple[str, ...]
    excused: int
    """Objects that came again and may, see above."""

    @property
    def all_well(self) -> bool:
        return not (self.lost or self.unanswered or self.twice or self.out_of_place)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=Plan.objects)
    parser.add_argument("--kills", type=int, default=Plan.kills)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--seconds-between-kills", type=float, default=Plan.seconds_between_kills)
    parser.add_argument("--workers", type=int, default=1, help="the node and so many less one helpers")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--folder", type=Path, default=None, help="keep everything here; without it a temporary folder")
    arguments = parser.parse_args()
    if arguments.workers > 1 and arguments.database == "sqlite":
        parser.error("several workers need --database postgres")
    plan = Plan(arguments.objects, arguments.kills, arguments.seed, arguments.seconds_between_kills)
    server = postgres() if arguments.database == "postgres" else nullcontext(None)
    with tempfile.TemporaryDirectory() as folder, server as database:
        plan = replace(plan, workers=arguments.workers, database=database)
        story = Soak(plan, arguments.folder or Path(folder)).run()
    verdict = judge(story)
    Console(width=120).print(table(plan, story, verdict))
    for what in ("lost", "unanswered", "twice", "out_of_place"):
        for line in getattr(verdict, what)[:20]:
            print(f"{what}: {line}")
    for file in story.leaks:
        print("holds a patient's word:", file)
    return 0 if verdict.all_well and not any(story.exit_codes) and not story.leaks else 1


class Soak:
    """One run of a plan.

    Parameters
    ----------
    make_node
        Makes each process of the node; `NodeProcess`, or one that is killed otherwise.
    """

    def __init__(self, plan: Plan, folder: Path, *, make_node: Callable[..., NodeProcess] = NodeProcess) -> None:
        self._plan = plan
        self._folder = folder
        self._random = random.Random(plan.seed)
        self._destination = CountingDestination(keeps=[MammographyCADSRStorage])
        node: dict[str, object] = {"quiet_seconds": plan.quiet_seconds}
        if plan.database is not None:
            node["database"] = plan.database
        sections = {"node": node, "destinations": [destination_section(self._destination.port)]}
        patience = () if plan.workers == 1 else ("--dead-after", str(DEAD_AFTER_SECONDS))
        self._node = make_node(folder, sections, options=patience)
        self._helpers = [
            make_node(folder, sections, name=f"helper-{number}", options=("--work", *patience))
            for number in range(1, plan.workers)
        ]
        maker = SmallMammograms(folder / "images", plan.seed)
        studies = [maker.study(number) for number in range(-(-plan.objects // 4))]
        self._story = Story([image for study in studies for image in study][: plan.objects])
        self._queue = self._shuffled(self._story.images)
        self._answers = 0
        self._all_sent, self._over = threading.Event(), threading.Event()

    def run(self) -> Story:
        """Send, kill, and wait until nothing moves any more."""
        story, started = self._story, time.monotonic()
        with self._destination:
            threads = [threading.Thread(target=work) for work in (self._go_down_and_up, self._send_all)]
            for process in (self._node, *self._helpers):
                process.start()
            for thread in threads:
                thread.start()
            try:
                self._kill_and_start_again()
                threads[1].join()
                story.seconds_sending = time.monotonic() - started
                self._over.set()
                threads[0].join()
                self._drain()
                processes = (self._node, *self._helpers)
                story.given_up = {e["image"] for process in processes for e in process.events("image given up")}
                story.megabytes += [resident_megabytes(process.pid) for process in processes]
                story.exit_codes = [process.stop() for process in processes]
            finally:
                self._over.set()
                for process in (self._node, *self._helpers):
                    process.kill()
            story.leaks = leaks(self._folder)
            story.arrivals, story.refusals = list(self._destination.arrivals), self._destination.refusals
        story.seconds = time.monotonic() - started
        return story

    def _shuffled(self, images: Sequence[SmallMammogram]) -> list[SmallMammogram]:
        """All images, each near its study's turn, and some of them once more some way behind."""
        turns: list[tuple[float, SmallMammogram]] = []
        for index, image in enumerate(images):
            turn = index / 4 + self._random.uniform(0, self._plan.spread)
            turns.append((turn, image))
            if self._random.random() < self._plan.resends:
                turns.append((turn + self._random.uniform(0, 4 * self._plan.spread), image))
        return [image for _, image in sorted(turns, key=lambda t: t[0])]

    def _send_all(self) -> None:
        """Send in associations of one to eight, over the time that the kills take; unanswered ones later again."""
        pause = 0.9 * self._plan.kills * self._plan.seconds_between_kills / len(self._queue)
        chooser, waiting = random.Random(self._plan.seed + 1), list(self._queue)
        while waiting and not self._over.is_set():
            started = time.monotonic()
            batch = waiting[: chooser.randint(1, 8)]
            waiting = waiting[len(batch) :]
            statuses = send([image.file for image in batch], self._node.port)
            for image, status in zip(batch, statuses, strict=True):
                self._story.sent += 1
                if status == 0x0000:
                    self._answers += 1
                    self._story.acknowledged.add(image.uid)
                else:
                    self._story.unanswered_sends += 1
                    waiting.insert(min(len(waiting), chooser.randint(0, 40)), image)
            answered = sum(status == 0x0000 for status in statuses)
            self._over.wait(max(0.2 if not answered else 0.0, answered * pause - (time.monotonic() - started)))
        self._all_sent.set()

    def _kill_and_start_again(self) -> None:
        """Kill whenever as many objects were acknowledged as was drawn beforehand, and somewhat after the last too."""
        moments = sorted(self._random.uniform(0.0, 1.1 * len(self._queue)) for _ in range(self._plan.kills))
        for moment in moments:
            while self._answers < moment and not self._all_sent.wait(0.1):
                continue
            time.sleep(self._random.uniform(0.0, LONGEST_GRACE_SECONDS))
            victim = self._random.choice((self._node, *self._helpers))
            if not victim.alive:
                raise RuntimeError(f"the node ended by itself:\n{victim.log_text()[-2000:]}")
            self._story.megabytes.append(resident_megabytes(victim.pid))
            victim.kill()
            self._story.kills.append(time.monotonic())
            if victim is not self._node:
                time.sleep(self._random.uniform(0.0, 1.5 * DEAD_AFTER_SECONDS))
            victim.start()
        self._node.wait_until_it_listens()

    def _go_down_and_up(self) -> None:
        chooser = random.Random(self._plan.seed + 2)
        while not self._over.is_set():
            way = chooser.choice(("closed", "rejecting", "out of resources"))
            began = time.monotonic()
            self._set_down(way, down=True)
            self._over.wait(chooser.uniform(1, 9))
            self._set_down(way, down=False)
            self._story.seconds_down += time.monotonic() - began
            self._over.wait(chooser.uniform(1, 9))

    def _set_down(self, way: str, *, down: bool) -> None:
        match way:
            case "closed" if down:
                self._destination.close()
            case "closed":
                self._destination.open()
            case "rejecting":
                self._destination.reject(everyone=down)
            case _:
                status = 0xA700 if down else 0x0000
                self._destination.status_for = lambda _: status

    def _drain(self) -> None:
        """Wait until all is as it should be; what is not when nothing moves any more is for `judge` to tell."""
        recorded = Progress(self._node.storage, self._plan.database)

        def standing() -> tuple[int, ...]:
            return (len(self._destination.arrivals), *recorded())

        studies = {image.study for image in self._story.images if image.uid in self._story.acknowledged}

        def answered() -> bool:
            self._story.arrivals = list(self._destination.arrivals)
            reported = {str(a.dataset.StudyInstanceUID) for a in self._story.arrivals if a.dataset is not None}
            if not studies <= reported:  # judging thousands of reports takes seconds, of the cores that the node needs
                return False
            verdict = judge(self._story)
            return not (verdict.lost or verdict.unanswered)

        try:
            still = self._plan.still_seconds
            wait_while_it_moves(answered, standing, "every acknowledged image is reported", still)
        except TimeoutError as error:
            print(error, file=sys.stderr)
        finally:
            recorded.close()
        time.sleep(2 * self._plan.quiet_seconds + SETTLE_SECONDS)  # for whatever would come a second time


def judge(story: Story) -> Verdict:
    """Count what went wrong."""
    boxes = {image.uid: image.box for image in story.images if image.uid not in story.given_up}
    studies: dict[str, set[str]] = defaultdict(set)
    for image in story.images:
        if image.uid in story.acknowledged:
            studies[image.study].add(image.uid)
    reports: dict[str, list[Dataset]] = defaultdict(list)
    for arrival in {a.uid: a for a in reversed(story.arrivals)}.values():
        if arrival.dataset is not None:
            reports[str(arrival.dataset.StudyInstanceUID)].append(arrival.dataset)
    covered = {
        study: [frozenset(evidence(report)) for report in sorted(made, key=_made)] for study, made in reports.items()
    }
    twice, excused = _stored_twice(story)
    for study, sets in covered.items():
        twice += [f"study {study}: two reports of the same {len(s)} images" for s in set(sets) if sets.count(s) > 1]
    return Verdict(
        lost=tuple(
            uid
            for study, uids in studies.items()
            if covered.get(study)
            for uid in sorted(uids - max(covered[study], key=len))
        ),
        unanswered=tuple(study for study in studies if study not in covered),
        twice=tuple(twice),
        out_of_place=tuple(
            fault for made in reports.values() for report in made for fault in misplaced_marks(report, boxes)
        ),
        excused=excused,
    )


def _made(report: Dataset) -> str:
    return f"{report.ContentDate}{report.ContentTime}"


def _stored_twice(story: Story) -> tuple[list[str], int]:
    """Objects that came again: those without an excuse, and how many have one."""
    twice, excused = [], 0
    last_of_visit = {id(arrival.visit): arrival for arrival in story.arrivals}
    first: dict[str, Arrival] = {}
    for arrival in story.arrivals:
        before = first.get(arrival.uid)
        first[arrival.uid] = arrival
        if before is None:
            continue
        if before.digest != arrival.digest:
            twice.append(f"object {arrival.uid}: stored with two contents")
        elif _was_killed(before, arrival, story.kills) or (
            before.visit.broken is not None and last_of_visit[id(before.visit)] is before
        ):
            excused += 1
        else:
            twice.append(f"object {arrival.uid}: stored again {arrival.at - before.at:.1f} s later")
    return twice, excused


def _was_killed(before: Arrival, again: Arrival, kills: Sequence[float]) -> bool:
    ended = before.visit.released or before.visit.broken or again.at
    return any(before.visit.opened <= kill <= min(again.at, ended + SETTLE_SECONDS) for kill in kills)


def evidence(report: Dataset) -> list[str]:
    """The images that a CAD SR says it was made from."""
    return [
        str(item.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def misplaced_marks(report: Dataset, boxes: dict[str, Box | None]) -> list[str]:
    """What is wrong with the outlines in a CAD SR, image by image."""
    marks: dict[str, list[Box]] = {uid: [] for uid in evidence(report)}
    for item in _items(report):
        names = item.get("ConceptNameCodeSequence")
        if item.get("ValueType") == "SCOORD" and names and names[0].CodeValue == OUTLINE:
            image = report
            for position in item.ContentSequence[0].ReferencedContentItemIdentifier[1:]:
                image = image.ContentSequence[position - 1]
            columns, rows = item.GraphicData[0::2], item.GraphicData[1::2]
            uid = str(image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            marks.setdefault(uid, []).append((min(columns), min(rows), max(columns), max(rows)))
    faults = []
    for uid, found in marks.items():
        if uid not in boxes:
            continue
        box = boxes[uid]
        expected = [] if box is None else [box]
        if len(found) != len(expected):
            faults.append(f"image {uid}: {len(found)} marks, {len(expected)} drawn")
        elif expected and max(abs(a - b) for a, b in zip(found[0], expected[0], strict=True)) > TOLERANCE_PIXELS:
            faults.append(f"image {uid}: marked at {found[0]}, drawn at {box}")
    return faults


def _items(item: Dataset) -> list[Any]:
    children = list(item.get("ContentSequence") or [])
    return children + [grandchild for child in children for grandchild in _items(child)]


def table(plan: Plan, story: Story, verdict: Verdict) -> Table:
    rows = Table("what", "how many", title=f"Soak, seed {plan.seed}")
    studies = len({image.study for image in story.images})
    reports = len({a.uid for a in story.arrivals if a.dataset is not None})
    for what, count in (
        ("images", len(story.images)),
        ("studies", studies),
        ("objects sent, resends included", story.sent),
        ("of these not acknowledged and sent again", story.unanswered_sends),
        ("workers", f"{plan.workers} on {'SQLite' if plan.database is None else 'PostgreSQL'}"),
        ("kills", len(story.kills)),
        (
            "destination down, share of the sending",
            f"{100 * story.seconds_down / max(story.seconds_sending, 1e-9):.0f} %",
        ),
        ("objects that it answered with 0xA700", story.refusals),
        ("reports at the destination", reports),
        ("objects at the destination", len({a.uid for a in story.arrivals})),
        ("objects that came again with an excuse", verdict.excused),
        ("MB resident in the node, most", f"{max(story.megabytes, default=0):.0f}"),
        ("minutes, sending", f"{story.seconds_sending / 60:.1f}"),
        ("minutes, all", f"{story.seconds / 60:.1f}"),
        ("acknowledged images lost", len(verdict.lost)),
        ("studies unanswered", len(verdict.unanswered)),
        ("stored twice", len(verdict.twice)),
        ("images given up", len(story.given_up)),
        ("files with a patient's word", len(story.leaks)),
        ("marks out of place", len(verdict.out_of_place)),
    ):
        rows.add_row(what, str(count))
    return rows


if __name__ == "__main__":
    sys.exit(main())
