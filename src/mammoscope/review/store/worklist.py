"""Studies and images in the store: brought by a source, listed, searched and sorted."""

import hashlib
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mammoscope.findings import Box
from mammoscope.review.errors import NotFoundError
from mammoscope.review.store import schema as t
from mammoscope.review.store.database import Database
from mammoscope.review.store.marks import Origin, Proposal
from mammoscope.review.store.models import ImageFacts, ImageRow, Progress, SourceImage, SourceStudy, StudyRow, Worklist

SORTS = {
    "suspicion": t.studies.c.highest,
    "time": t.studies.c.came_at,
    "patient": t.studies.c.patient,
    "findings": t.studies.c.findings,
    "progress": t.studies.c.progress,
    "state": t.studies.c.state,
}
"""What the worklist can be sorted by."""


class WorklistRecords:
    """The part of the store that sources fill and the worklist shows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known_versions(self) -> dict[str, str]:
        """The version of each study that a source brought and still has, by key."""
        s = t.studies.c
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(s.key, s.version).where(~s.gone))
            return {row.key: row.version for row in rows}

    def put(self, studies: Iterable[SourceStudy]) -> None:
        """Note what a source has of studies, new or changed; what readers did stays."""
        with self._database.writing() as connection:
            for study in studies:
                _put_study(connection, study)

    def mark_gone(self, keys: Collection[str]) -> None:
        """Note that a source has studies no longer."""
        with self._database.writing() as connection:
            for key in keys:
                connection.execute(sa.update(t.studies).where(t.studies.c.key == key).values(gone=True))

    def worklist(
        self,
        *,
        search: str = "",
        progress: Progress | None = None,
        state: str | None = None,
        sort: str = "time",
        falling: bool = True,
        offset: int = 0,
        limit: int = 50,
    ) -> Worklist:
        """One page of the studies.

        Parameters
        ----------
        search
            Part of the patient's number or name, the study's key or the scanner.
        sort
            One of `SORTS`; a study without a score comes last either way.
        """
        s = t.studies.c
        where = [~s.gone]
        if text := search.strip():
            columns = (s.patient, s.patient_name, s.key, s.scanner)
            where.append(sa.or_(*(column.icontains(text[:100], autoescape=True) for column in columns)))
        if progress is not None:
            where.append(s.progress == progress)
        if state:
            where.append(s.state == state)
        column = SORTS.get(sort, s.came_at)
        order = (column.desc() if falling else column.asc()).nulls_last()
        query = sa.select(t.studies).where(*where).order_by(order, s.id).offset(offset).limit(limit)
        with self._database.reading() as connection:
            total = connection.scalar(sa.select(sa.func.count()).select_from(t.studies).where(*where))
            return Worklist(tuple(_study(row) for row in connection.execute(query).mappings()), int(total or 0))

    def change_mark(self) -> str:
        """Give a text that is another whenever the worklist is."""
        s, a, r = t.studies.c, t.actions.c, t.reads.c
        with self._database.reading() as connection:
            counted = [
                connection.execute(sa.select(sa.func.count(), sa.func.max(s.came_at)).select_from(t.studies)).one(),
                connection.execute(
                    sa.select(s.state, s.progress, s.gone, sa.func.count()).group_by(s.state, s.progress, s.gone)
                ).all(),
                connection.execute(sa.select(s.destinations, sa.func.count()).group_by(s.destinations)).all(),
                connection.scalar(sa.select(sa.func.max(a.id))),
                connection.execute(sa.select(sa.func.count(), sa.func.max(r.ended_at)).select_from(t.reads)).one(),
            ]
        return hashlib.sha256(repr(counted).encode()).hexdigest()[:16]

    def counts(self) -> dict[Progress, int]:
        """How many studies are how far."""
        s = t.studies.c
        query = sa.select(s.progress, sa.func.count()).where(~s.gone).group_by(s.progress)
        with self._database.reading() as connection:
            found = {Progress(progress): count for progress, count in connection.execute(query)}
        return {progress: found.get(progress, 0) for progress in Progress}

    def states(self) -> dict[str, int]:
        """How many studies are in which state of the source's."""
        s = t.studies.c
        query = sa.select(s.state, sa.func.count().label("n")).where(~s.gone).group_by(s.state).order_by(s.state)
        with self._database.reading() as connection:
            return {str(row.state): int(row.n) for row in connection.execute(query)}

    def study(self, study: int) -> StudyRow:
        """One study.

        Raises
        ------
        NotFoundError
            If there is none of that number.
        """
        with self._database.reading() as connection:
            row = connection.execute(sa.select(t.studies).where(t.studies.c.id == study)).mappings().first()
        if row is None:
            raise NotFoundError("there is no such study.")
        return _study(row)

    def finished(self, *, with_disputed: bool = False) -> tuple[StudyRow, ...]:
        """All studies that readers are done with and agree on, or those too on which they do not."""
        s = t.studies.c
        wanted = [Progress.READ, Progress.SETTLED, *([Progress.DISPUTED] if with_disputed else [])]
        query = sa.select(t.studies).where(s.progress.in_(wanted)).order_by(s.id)
        with self._database.reading() as connection:
            return tuple(_study(row) for row in connection.execute(query).mappings())

    def images(self, study: int) -> tuple[ImageRow, ...]:
        """The images of a study."""
        query = sa.select(t.images).where(t.images.c.study == study).order_by(t.images.c.id)
        with self._database.reading() as connection:
            return tuple(_image(row) for row in connection.execute(query).mappings())

    def image(self, image: int) -> ImageRow:
        """One image.

        Raises
        ------
        NotFoundError
            If there is none of that number.
        """
        with self._database.reading() as connection:
            row = connection.execute(sa.select(t.images).where(t.images.c.id == image)).mappings().first()
        if row is None:
            raise NotFoundError("there is no such image.")
        return _image(row)

    def proposals(self, study: int) -> dict[int, list[Proposal]]:
        """The boxes on each image of a study that are proposed now, and those that were when a reader judged them."""
        with self._database.reading() as connection:
            return load_proposals(connection, study)

    def image_facts(self) -> tuple[ImageFacts, ...]:
        """What figures need of all images that a model read, those of studies that are gone too."""
        s, i, p = t.studies.c, t.images.c, t.proposals.c
        model = sa.and_(p.image == i.id, ~p.replaced, p.origin == Origin.MODEL)
        before = t.proposals.alias("before")
        of_data_set = before.c.image == i.id, ~before.c.replaced, before.c.origin == Origin.ANNOTATION
        annotated = sa.select(sa.func.count(before.c.id)).where(*of_data_set).scalar_subquery()
        query = (
            sa.select(
                s.scanner, s.taken_on, s.came_at, sa.func.count(p.id).label("findings"),
                sa.func.max(p.score).label("highest"), i.mean_grey, i.contrast, i.breast_share,
                annotated.label("annotated"),
            )
            .select_from(t.images)
            .join(t.studies, s.id == i.study)
            .outerjoin(t.proposals, model)
            .where(i.reason.is_(None))
            .group_by(i.id)
        )  # fmt: skip
        with self._database.reading() as connection:
            return tuple(
                ImageFacts(
                    row.scanner, row.taken_on[:7] or f"{row.came_at:%Y-%m}", row.findings,
                    (row.highest, row.mean_grey, row.contrast, row.breast_share), row.annotated,
                )
                for row in connection.execute(query)
            )  # fmt: skip

    def unmeasured(self) -> ImageRow | None:
        """An image that nobody measured yet, the newest first; ``None`` when there is none."""
        i, s = t.images.c, t.studies.c
        query = (
            sa.select(t.images)
            .join(t.studies, s.id == i.study)
            .where(i.reason.is_(None), i.measured.is_(None), ~s.gone)
            .order_by(s.came_at.desc(), i.id)
            .limit(1)
        )
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else _image(row)

    def note_statistics(self, image: int, values: tuple[float, float, float] | None) -> None:
        """Note an image's mean grey, contrast and breast share; ``None`` of one that cannot be measured."""
        named = dict(zip(("mean_grey", "contrast", "breast_share"), values or (None, None, None), strict=True))
        with self._database.writing() as connection:
            connection.execute(sa.update(t.images).where(t.images.c.id == image).values(measured=True, **named))

    def earlier_studies(self, study: int) -> tuple[StudyRow, ...]:
        """Other studies of the same patient, the newest first."""
        row = self.study(study)
        s = t.studies.c
        query = (
            sa.select(t.studies)
            .where(s.patient == row.patient, s.id != study, ~s.gone)
            .order_by(s.taken_on.desc(), s.came_at.desc())
            .limit(20)
        )
        with self._database.reading() as connection:
            return tuple(_study(row) for row in connection.execute(query).mappings())


def load_proposals(connection: sa.Connection, study: int) -> dict[int, list[Proposal]]:
    """The boxes on each image of a study that are proposed now, and those that were when a reader judged them."""
    p, a = t.proposals.c, t.actions.c
    judged = sa.exists().where(a.image == p.image, a.mark == sa.literal("p").concat(sa.cast(p.id, sa.String)))
    found: dict[int, list[Proposal]] = {
        image: [] for image in connection.scalars(sa.select(t.images.c.id).where(t.images.c.study == study))
    }
    query = (
        sa.select(t.proposals)
        .join(t.images, t.images.c.id == p.image)
        .where(t.images.c.study == study, sa.or_(~p.replaced, judged))
        .order_by(p.score.desc().nulls_last(), p.id)
    )
    for row in connection.execute(query).mappings():
        box = Box(row["x0"], row["y0"], row["x1"], row["y1"])
        details = row["details"] or {}
        found[row["image"]].append(Proposal(row["id"], Origin(row["origin"]), box, row["label"], row["score"], details))
    return found


def _put_study(connection: sa.Connection, study: SourceStudy) -> None:
    scores = [box.score for image in study.images for box in image.proposals if box.score is not None]
    values: dict[str, Any] = {
        "patient": study.patient[:256],
        "patient_name": study.patient_name[:256],
        "taken_on": study.taken_on[:10],
        "scanner": study.scanner[:128],
        "state": study.state,
        "reason": study.reason,
        "came_at": study.came_at.astimezone(UTC),
        "version": study.version,
        "images": len(study.images),
        "findings": sum(len(image.proposals) for image in study.images),
        "highest": max(scores, default=None),
        "gone": False,
        "destinations": [list(one) for one in study.destinations],
    }
    number = connection.scalar(sa.select(t.studies.c.id).where(t.studies.c.key == study.key))
    if number is None:
        values["patient"] = values["patient"] or study.key
        added = sa.insert(t.studies).values(key=study.key, **values).returning(t.studies.c.id)
        number = connection.execute(added).scalar_one()
    else:
        connection.execute(sa.update(t.studies).where(t.studies.c.id == number).values(**_known(values)))
    for image in study.images:
        _put_image(connection, number, image)


def _put_image(connection: sa.Connection, study: int, image: SourceImage) -> None:
    i = t.images.c
    values = {
        "path": str(image.path),
        "laterality": image.laterality and str(image.laterality),
        "view": image.view and str(image.view),
        "rows": image.rows,
        "columns": image.columns,
        "reason": image.reason,
    }
    number = connection.scalar(sa.select(i.id).where(i.study == study, i.key == image.key))
    if number is None:
        added = sa.insert(t.images).values(study=study, key=image.key, **values).returning(i.id)
        number = connection.execute(added).scalar_one()
    else:
        connection.execute(sa.update(t.images).where(i.id == number).values(**_known(values)))
    _put_proposals(connection, number, image)


def _put_proposals(connection: sa.Connection, image: int, brought: SourceImage) -> None:
    """Leave boxes that are proposed again as they are, with the verdicts on them."""
    p = t.proposals.c
    wanted = [(str(b.origin), *b.edges, b.score, b.label) for b in brought.proposals]
    details = {key: dict(b.details) or None for key, b in zip(wanted, brought.proposals, strict=True)}
    query = sa.select(p.id, p.origin, p.x0, p.y0, p.x1, p.y1, p.score, p.label).where(p.image == image, ~p.replaced)
    for number, *there in connection.execute(query).all():
        if tuple(there) in wanted:
            wanted.remove(tuple(there))
            if details[tuple(there)]:
                connection.execute(sa.update(t.proposals).where(p.id == number).values(details=details[tuple(there)]))
        else:
            connection.execute(sa.update(t.proposals).where(p.id == number).values(replaced=True))
    names = ("origin", "x0", "y0", "x1", "y1", "score", "label")
    if wanted:
        connection.execute(
            sa.insert(t.proposals),
            [
                {"image": image, "replaced": False, "details": details[w], **dict(zip(names, w, strict=True))}
                for w in wanted
            ],
        )


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """What a source still knows: of an image that it keeps no longer, what its header said stays."""
    from_header = ("patient", "patient_name", "taken_on", "scanner", "laterality", "view", "rows", "columns")
    return {name: value for name, value in values.items() if value or name not in from_header}


def _study(row: Any) -> StudyRow:
    values = {name: row[name] for name in StudyRow.__slots__}
    came_at: datetime = values["came_at"]
    values["destinations"] = tuple((name, status) for name, status in values["destinations"] or ())
    return StudyRow(**{**values, "came_at": came_at, "progress": Progress(values["progress"])})


def _image(row: Any) -> ImageRow:
    return ImageRow(**{**{name: row[name] for name in ImageRow.__slots__}, "path": Path(row["path"])})
