"""`ReviewStore`: readers' actions and reads, and what they amount to."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mammoscope.review.errors import ConflictError, NotFoundError, ReviewError
from mammoscope.review.store import schema as t
from mammoscope.review.store.agreement import Agreement, agreement, compare
from mammoscope.review.store.database import Database
from mammoscope.review.store.marks import (
    Action,
    ActionKind,
    Mark,
    Proposal,
    Verdict,
    check_possible,
    counting,
    replay,
)
from mammoscope.review.store.models import Opinion, Place, Progress, Read, ReadState, Sending, Truth
from mammoscope.review.store.worklist import WorklistRecords, load_proposals
from mammoscope.settings.schema import SecondReader

_FINISHED = (Progress.READ, Progress.SETTLED)


class ReviewStore(WorklistRecords):
    """The store in a folder. Safe to use from several threads; what a method wrote is on the disk when it returns.

    Parameters
    ----------
    folder
        Made if it is not there.
    second_reader
        Whether each study is read twice.

    Raises
    ------
    ReviewError
        If it cannot be used.
    """

    def __init__(self, folder: Path, second_reader: SecondReader = SecondReader.NONE) -> None:
        super().__init__(Database(folder))
        self.second_reader = second_reader

    @property
    def database(self) -> Database:
        """Where the accounts are kept, too."""
        return self._database

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def act(
        self,
        image: int,
        reader: str,
        *,
        expected: int,
        token: str,
        kind: ActionKind,
        mark: str,
        content: Mapping[str, Any],
    ) -> tuple[int, tuple[Mark, ...]]:
        """Add an action of a reader on an image; one that was sent before, by its token, is not added again.

        Parameters
        ----------
        expected
            Number of the reader's last action on the image that the page knows of.

        Returns
        -------
        The number of the reader's last action on the image, and the boxes as they are now.

        Raises
        ------
        NotFoundError
            If there is no such image.
        ConflictError
            If the reader acted elsewhere in between, the read is done, or somebody else reads the study.
        ReviewError
            If the action is not possible.
        """
        a = t.actions.c
        with self._database.writing() as connection:
            study = connection.scalar(sa.select(t.images.c.study).where(t.images.c.id == image))
            if study is None:
                raise NotFoundError("there is no such image.")
            proposals = load_proposals(connection, study)[image]
            actions = _actions_on(connection, [image], reader)
            last = max((action.number for action in actions), default=0)
            sent = connection.execute(sa.select(a.image, a.reader).where(a.token == token)).first()
            if sent is not None:
                if tuple(sent) != (image, reader):
                    raise ReviewError("that action was made of another image.")
                return last, replay(proposals, actions)
            if expected != last:
                raise ConflictError("this image was changed in another window: its boxes are shown as they are now.")
            self._take_place(connection, study, reader)
            check_possible(replay(proposals, actions), bool(counting(actions)), kind, mark, content)
            new = Action(last + 1, kind, mark, content, datetime.now(UTC), reader)
            _add(connection, image, token, new)
            _restate(connection, study, self.second_reader)
            return new.number, replay(proposals, [*actions, new])

    def finish(
        self,
        study: int,
        reader: str,
        state: ReadState,
        *,
        opinion: Opinion | None = None,
        shown_from: float = 0.0,
        known: Mapping[int, int] | None = None,
    ) -> Progress:
        """End, put off or take up again a reader's reading of a study.

        Whoever is done accepts every proposed box that is on the screen and was not judged: each becomes an action.

        Parameters
        ----------
        opinion
            Of the study as a whole, where the reader is done; by default `Opinion.RECALL` where a box is accepted, and
            `Opinion.NORMAL` where none is.
        shown_from
            Score from which boxes are on the screen; one without a score always is.
        known
            Number of the reader's last action on each image that the page knows of.

        Raises
        ------
        NotFoundError
            If there is no such study.
        ConflictError
            If the reader acted elsewhere in between, or somebody else reads the study.
        """
        now = datetime.now(UTC)
        with self._database.writing() as connection:
            if connection.scalar(sa.select(t.studies.c.id).where(t.studies.c.id == study)) is None:
                raise NotFoundError("there is no such study.")
            read = self._take_place(connection, study, reader, reopening=True)
            by_image = load_proposals(connection, study)
            if read.state is not ReadState.DONE and state is ReadState.DONE:
                for image, proposals in by_image.items():
                    actions = _actions_on(connection, [image], reader)
                    last = max((action.number for action in actions), default=0)
                    if known is not None and known.get(image, last) != last:
                        raise ConflictError("this study was changed in another window: load it again before ending it.")
                    self._accept_the_rest(connection, image, reader, proposals, actions, shown_from, now)
            ended = now if state is ReadState.DONE else None
            if state is not ReadState.DONE:
                opinion = None
            elif opinion is None:
                opinion = _opinion_by_boxes(connection, study, reader)
            this = (t.reads.c.study == study) & (t.reads.c.reader == reader)
            connection.execute(sa.update(t.reads).where(this).values(state=state, ended_at=ended, opinion=opinion))
            return _restate(connection, study, self.second_reader)

    def reads(self, study: int) -> tuple[Read, ...]:
        """Who reads or has read a study."""
        with self._database.reading() as connection:
            return _reads(connection, study)

    def place_of(self, study: int, reader: str) -> Place | None:
        """As what a reader reads a study, or would; ``None`` where no place is left."""
        with self._database.reading() as connection:
            return _place_for(connection, study, reader, self.second_reader)

    def marks(self, study: int, reader: str) -> dict[int, tuple[int, tuple[Mark, ...]]]:
        """For each image of a study, the number of a reader's last action and the boxes as the reader left them."""
        with self._database.reading() as connection:
            return _marks(connection, study, reader)

    def history(self, image: int) -> tuple[Action, ...]:
        """All actions on an image, of all readers, the first one first."""
        with self._database.reading() as connection:
            return _actions_on(connection, [image])

    def next_unread(self, reader: str, after: int | None = None, sort: str = "suspicion") -> int | None:
        """The study that a reader reads next: one that two others dispute, that nobody has, or that wants a second one.

        Disputed ones come first: somebody waits for what is decided on them.

        Parameters
        ----------
        after
            The study that the reader has open, which is not the next.
        sort
            ``suspicion``, the highest score first; or ``time``, the oldest first.
        """
        s, r = t.studies.c, t.reads.c
        read_by_me = sa.select(r.study).where(r.reader == reader)
        settled_by_somebody = sa.select(r.study).where(r.place == Place.ARBITER)
        to_settle = sa.and_(
            s.progress == Progress.DISPUTED, s.id.not_in(read_by_me), s.id.not_in(settled_by_somebody)
        )  # fmt: skip
        mine = sa.select(r.study).where(r.reader == reader, r.state != ReadState.OPEN)
        begun_by_me = sa.select(r.study).where(r.reader == reader, r.state == ReadState.OPEN)
        open_to_me = [s.progress == Progress.UNREAD, s.id.in_(begun_by_me), to_settle]
        if self.second_reader is not SecondReader.NONE:
            open_to_me.append(s.progress == Progress.READ_ONCE)
        order = s.highest.desc().nulls_last() if sort == "suspicion" else s.came_at.asc()
        query = sa.select(s.id).where(~s.gone, s.images > 0, sa.or_(*open_to_me), s.id.not_in(mine))
        if after is not None:
            query = query.where(s.id != after)
        with self._database.reading() as connection:
            return connection.scalar(query.order_by(to_settle.desc(), order, s.id).limit(1))

    def unread(self, limit: int) -> list[int]:
        """The studies that nobody has read, the highest score first."""
        s = t.studies.c
        query = sa.select(s.id).where(~s.gone, s.images > 0, s.progress == Progress.UNREAD)
        with self._database.reading() as connection:
            return list(connection.scalars(query.order_by(s.highest.desc().nulls_last(), s.id).limit(limit)))

    def truth(self, study: int) -> Truth:
        """What the readers of a study came to.

        Of two who agree the first one's boxes count; of a disputed study none, until it is settled.
        """
        with self._database.reading() as connection:
            reads = _reads(connection, study)
            progress = _progress(connection, study, reads, self.second_reader)
            if progress not in _FINISHED:
                return Truth(progress)
            done = {read.place: read for read in reads if read.state is ReadState.DONE}
            decisive = done.get(Place.ARBITER) or done[Place.FIRST]
            marks = {image: found for image, (_, found) in _marks(connection, study, decisive.reader).items()}
            return Truth(progress, tuple(read.reader for read in done.values()), marks)

    def note_sending(self, study: int, sending: Sending) -> None:
        """Note that a reader had a study's result sent."""
        with self._database.writing() as connection:
            connection.execute(
                sa.insert(t.sendings).values(
                    study=study, report=sending.report, reader=sending.reader, at=sending.at, objects=sending.objects
                )
            )

    def sendings(self, study: int) -> tuple[Sending, ...]:
        """What readers had sent of a study, the last one first."""
        query = sa.select(t.sendings).where(t.sendings.c.study == study).order_by(t.sendings.c.id.desc())
        with self._database.reading() as connection:
            return tuple(
                Sending(row["report"], row["reader"], row["at"], row["objects"])
                for row in connection.execute(query).mappings()
            )

    def agreement(self) -> Agreement:
        """How first and second readers agree, over the studies that both are done with."""
        r, other = t.reads.alias("one").c, t.reads.alias("other").c
        both = sa.select(r.study, r.reader, other.reader).where(
            r.study == other.study, r.place == Place.FIRST, other.place == Place.SECOND,
            r.state == ReadState.DONE, other.state == ReadState.DONE,
        )  # fmt: skip
        compared: list[tuple[Sequence[Mark], Sequence[Mark]]] = []
        with self._database.reading() as connection:
            for study, first, second in connection.execute(both).all():
                ones, others = _marks(connection, study, first), _marks(connection, study, second)
                compared += [(ones[image][1], others[image][1]) for image in ones]
        return agreement(compared)

    def _take_place(self, connection: sa.Connection, study: int, reader: str, *, reopening: bool = False) -> Read:
        read = next((read for read in _reads(connection, study) if read.reader == reader), None)
        if read is not None:
            if read.state is ReadState.DONE and not reopening:
                raise ConflictError("you have ended this reading: take it up again to change it.")
            return read
        place = _place_for(connection, study, reader, self.second_reader)
        if place is None:
            others = ", ".join(read.reader for read in _reads(connection, study))
            raise ConflictError(f"this study is read by {others}: nothing of yours was added.")
        new = Read(study, place, reader, ReadState.OPEN, datetime.now(UTC))
        try:
            connection.execute(
                sa.insert(t.reads).values(
                    study=study, place=place, reader=reader, state=new.state, began_at=new.began_at
                )
            )
        except IntegrityError:
            raise ConflictError("somebody else began to read this study just now: load it again.") from None
        return new

    def _accept_the_rest(
        self,
        connection: sa.Connection,
        image: int,
        reader: str,
        proposals: Sequence[Proposal],
        actions: Sequence[Action],
        shown_from: float,
        now: datetime,
    ) -> None:
        number = max((action.number for action in actions), default=0)
        for mark in replay(proposals, actions):
            if mark.verdict is None and (mark.score is None or mark.score >= shown_from):
                number += 1
                action = Action(
                    number, ActionKind.ACCEPT, mark.id, {"at_the_end": True, "shown_from": shown_from}, now, reader
                )
                _add(connection, image, f"end-{image}-{number}-{now.timestamp():.6f}", action)


def _add(connection: sa.Connection, image: int, token: str, action: Action) -> None:
    connection.execute(
        sa.insert(t.actions).values(
            image=image, reader=action.reader, number=action.number, token=token, kind=action.kind, mark=action.mark,
            content=dict(action.content), at=action.at,
        )
    )  # fmt: skip


def _actions_on(connection: sa.Connection, images: Sequence[int], reader: str | None = None) -> tuple[Action, ...]:
    a = t.actions.c
    query = sa.select(t.actions).where(a.image.in_(images)).order_by(a.id)
    if reader is not None:
        query = query.where(a.reader == reader)
    return tuple(
        Action(row["number"], ActionKind(row["kind"]), row["mark"], row["content"], row["at"], row["reader"])
        for row in connection.execute(query).mappings()
    )


def _marks(connection: sa.Connection, study: int, reader: str) -> dict[int, tuple[int, tuple[Mark, ...]]]:
    found = {}
    for image, proposals in load_proposals(connection, study).items():
        actions = _actions_on(connection, [image], reader)
        found[image] = (max((action.number for action in actions), default=0), replay(proposals, actions))
    return found


def _reads(connection: sa.Connection, study: int) -> tuple[Read, ...]:
    query = sa.select(t.reads).where(t.reads.c.study == study).order_by(t.reads.c.id)
    return tuple(
        Read(
            row["study"],
            Place(row["place"]),
            row["reader"],
            ReadState(row["state"]),
            row["began_at"],
            row["ended_at"],
            row["opinion"] and Opinion(row["opinion"]),
        )
        for row in connection.execute(query).mappings()
    )


def _place_for(connection: sa.Connection, study: int, reader: str, second: SecondReader) -> Place | None:
    reads = _reads(connection, study)
    for read in reads:
        if read.reader == reader:
            return read.place
    taken = {read.place for read in reads}
    if Place.FIRST not in taken:
        return Place.FIRST
    if second is not SecondReader.NONE and Place.SECOND not in taken:
        return Place.SECOND
    if Place.ARBITER not in taken and _progress(connection, study, reads, second) is Progress.DISPUTED:
        return Place.ARBITER
    return None


def _progress(connection: sa.Connection, study: int, reads: Sequence[Read], second: SecondReader) -> Progress:
    state = {read.place: read.state for read in reads}
    done = {place for place, reached in state.items() if reached is ReadState.DONE}
    if Place.ARBITER in done:
        return Progress.SETTLED
    if {Place.FIRST, Place.SECOND} <= done:
        one, other = (next(read for read in reads if read.place is place) for place in (Place.FIRST, Place.SECOND))
        first, others = _marks(connection, study, one.reader), _marks(connection, study, other.reader)
        alike = None in (one.opinion, other.opinion) or one.opinion is other.opinion
        agree = alike and all(compare(first[image][1], others[image][1]).agrees for image in first)
        return Progress.READ if agree else Progress.DISPUTED
    if Place.FIRST in done:
        return Progress.READ if second is SecondReader.NONE else Progress.READ_ONCE
    if not state:
        return Progress.UNREAD
    return Progress.DEFERRED if state.get(Place.FIRST) is ReadState.DEFERRED else Progress.READING


def _opinion_by_boxes(connection: sa.Connection, study: int, reader: str) -> Opinion:
    marks = _marks(connection, study, reader).values()
    return Opinion.RECALL if any(accepted(found) for _, found in marks) else Opinion.NORMAL


def _restate(connection: sa.Connection, study: int, second: SecondReader) -> Progress:
    progress = _progress(connection, study, _reads(connection, study), second)
    connection.execute(sa.update(t.studies).where(t.studies.c.id == study).values(progress=progress))
    return progress


def accepted(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """The boxes that a reader takes for lesions."""
    return tuple(mark for mark in marks if mark.verdict is Verdict.ACCEPTED)


def rejected(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """The boxes that a reader does not."""
    return tuple(mark for mark in marks if mark.verdict is Verdict.REJECTED)
