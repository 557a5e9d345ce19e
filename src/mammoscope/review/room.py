"""`ReadingRoom`: what one reading room is made of, kept in step with where its studies come from."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from mammoscope.errors import MammoscopeError
from mammoscope.imaging import Laterality, MammogramError, MammogramUnavailableError
from mammoscope.lifecycle import Running
from mammoscope.logging import where_raised
from mammoscope.node.audit.trail import AuditTrail
from mammoscope.review.accounts import Accounts, ProviderLogin
from mammoscope.review.administration import NodeAdministration
from mammoscope.review.errors import ForbiddenError
from mammoscope.review.heat_maps import Asked, HeatMaps, HeatMapState
from mammoscope.review.sources import StudySource
from mammoscope.review.statistics import image_statistics
from mammoscope.review.store import ImageRow, Mark, Place, ReadState, ReviewStore, SecondReader, Sent, StudyRow
from mammoscope.review.tiles import StoredPyramid, TileCache

EXPORTS = "exports"
SYNC_SECONDS = 2.0
MEASURE_SECONDS = 2.0
"""Between two images that are measured."""
STUDIES_AHEAD = 10
"""Of how many studies that are read next the tiles are cut before anybody looks."""

_PATIENCE_SECONDS = 0.2

log = structlog.get_logger(__name__)

Export = Callable[[Path], str]
"""Writes what was read as a data set's folder, which is not there yet, and gives one sentence that says so."""


class Sender(Protocol):
    """The way to the PACS."""

    def __call__(self, study: StudyRow, who: str) -> str:
        """Send what a study's readers came to, at somebody's word, and give one sentence that says so."""

    def sent(self, study: StudyRow) -> tuple[Sent, ...]:
        """What readers had sent of a study and what became of it, the last first."""


class ReadingRoom(Running):
    """A source's studies, what readers say of them, and who may.

    Parameters
    ----------
    source
        Where studies come from.
    folder
        Where everything is kept.
    tiles
        The room closes it.
    audit
        Who looked at which study is written there.
    second_reader
        Whether each study is read twice.
    send
        How a reader's result gets to the PACS; ``None`` where there is none.
    export
        How what was read becomes a data set; ``None`` where that is not offered on the pages.
    viewer_url
        Address of the site's own viewer, with ``{study}`` for the Study Instance UID.
    studies_ahead
        Of how many unread studies, the most suspicious first, tiles are cut before anybody looks.
    bundle
        The model that heat maps are of; ``None`` for the shipped one.
    login
        How people log in by a provider; ``None`` where they log in here.
    node
        The node beside it, to look after; ``None`` where there is none.

    Examples
    --------
    >>> with ReadingRoom(DatasetStudies(folder), folder / "review") as room:  # doctest: +SKIP
    ...     room.store.worklist()
    """

    def __init__(
        self,
        source: StudySource,
        folder: Path,
        *,
        tiles: TileCache | None = None,
        audit: AuditTrail | None = None,
        second_reader: SecondReader = SecondReader.NONE,
        send: Sender | None = None,
        export: Export | None = None,
        viewer_url: str | None = None,
        studies_ahead: int = STUDIES_AHEAD,
        bundle: Path | None = None,
        login: ProviderLogin | None = None,
        node: NodeAdministration | None = None,
    ) -> None:
        self.source = source
        self.store = ReviewStore(folder, second_reader)
        self.accounts = Accounts(self.store.database, by_provider=login is not None)
        self.login = login
        self.node = node
        self.tiles = tiles or TileCache(folder / "tiles")
        self.send = send
        self.export = export
        self.exports = folder / EXPORTS
        """Where the pages have data sets written."""
        self.viewer_url = viewer_url
        self._audit = audit or AuditTrail(folder / "audit")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_in_step, name="reading room", daemon=True)
        self.heat_maps = HeatMaps(folder / "heat_maps", self.tiles.reader, bundle)
        self._studies_ahead = studies_ahead
        self._ahead = threading.Thread(target=self._cut_ahead, name="tiles ahead", daemon=True)
        self._soon: deque[int] = deque(maxlen=STUDIES_AHEAD)
        self._wake = threading.Event()
        self._measuring = threading.Thread(target=self._measure_all, name="image statistics", daemon=True)

    @property
    def stopping(self) -> bool:
        """Whether it ends: what waits for news waits no longer."""
        return self._stopping.is_set()

    @property
    def title(self) -> str:
        """What pages call it."""
        return self.source.title

    def end_streams(self) -> None:
        """Have what waits for news wait no longer, so that a server can stop."""
        self._stopping.set()

    def start(self) -> None:
        """Take over what the source has now, and go on in the background."""
        self.sync()
        self._thread.start()
        self._ahead.start()
        if self.node is not None:  # a data set's images are those of other scanners and times
            self._measuring.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._wake.set()
        for thread in (self._thread, self._ahead, self._measuring):
            if thread.is_alive():
                thread.join()
        self.heat_maps.close()
        self.tiles.close()
        self.store.close()

    def sync(self) -> None:
        """Take over what changed in the source, and forget the tiles of images that it keeps no longer."""
        known = self.store.known_versions()
        if changed := list(self.source.changed(known)):  # most often there is nothing, and nobody to wait for
            self.store.put(changed)
        if lost := self.source.gone(known):
            self.store.mark_gone(lost)
        if dropped := self.tiles.drop_orphans():
            log.info("tiles dropped", images=dropped)
        self.heat_maps.drop_orphans()

    def note(self, event: str, who: str, **facts: Any) -> None:
        """Write a line of the audit trail.

        Raises
        ------
        ForbiddenError
            If it cannot be written: then nobody looks.
        """
        try:
            self._audit.append([{"event": event, "at": datetime.now(UTC).isoformat(), "who": who, **facts}])
        except OSError as error:
            log.warning("audit trail not written", reason=error.strerror)
            raise ForbiddenError(
                "the audit trail cannot be written, so that nothing is shown: tell your administrator."
            ) from None

    def audit_lines(self, limit: int = 200) -> list[dict[str, Any]]:
        """The last lines of the audit trail, the newest first."""
        return self._audit.last(limit)

    def pyramid(self, image: ImageRow) -> StoredPyramid:
        """The tiles of an image.

        Raises
        ------
        NotFoundError
            If its file is no longer kept.
        MammogramError
            If it cannot be decoded.
        """
        return self.tiles.pyramid(image.path, name_of(image), _side(image))

    def heat_map(self, image: ImageRow, mark: Mark) -> HeatMapState:
        """How far the heat map of a box is; asked for the first time it is begun.

        Raises
        ------
        NotFoundError, MammogramError
            As `pyramid`.
        ReviewError
            If too many wait already.
        """
        pyramid = self.pyramid(image)
        return self.heat_maps.state(
            Asked(image.path, name_of(image), pyramid.digest, pyramid.display, mark.box, mark.label)
        )

    def cut_before(self, image: ImageRow) -> StoredPyramid | None:
        """The tiles of an image if they are there; ``None`` where they would have to be cut, or cannot be."""
        try:
            return self.tiles.cut_before(image.path, name_of(image), _side(image))
        except MammoscopeError:
            return None

    def cut_soon(self, study: int) -> None:
        """Cut the tiles of a study in the background, before those of others."""
        self._soon.appendleft(study)
        self._wake.set()

    def others_shown(self, study: int, reader: str) -> dict[str, Mapping[int, Any]]:
        """The boxes of other readers that this one may see, by reader, then by image.

        A blind second reader, or one who could still become it, sees them when done; an arbiter sees them always.
        """
        reads = self.store.reads(study)
        mine = next((read for read in reads if read.reader == reader), None)
        place = self.store.place_of(study, reader)
        done = mine is not None and mine.state is ReadState.DONE
        blind = self.store.second_reader is SecondReader.BLIND and place in (Place.FIRST, Place.SECOND)
        if blind and not done:
            return {}
        return {read.reader: self.store.marks(study, read.reader) for read in reads if read.reader != reader}

    def measure_one(self) -> bool:
        """Measure one image that nobody measured yet, for the drift of images; return whether there was one."""
        image = self.store.unmeasured()
        if image is None:
            return False
        values = None
        if image.path.is_file():
            try:
                found = image_statistics(self.tiles.reader.read_reduced(image.path, image.key).pixels)
                values = found.mean_grey, found.contrast, found.breast_share
            except MammogramUnavailableError:
                return False
            except MammogramError as error:
                log.info("image not measured", image=image.key, reason=str(error))
        self.store.note_statistics(image.id, values)
        return True

    def _measure_all(self) -> None:
        """One image after another with pauses: whoever reads goes before."""
        while not self._stopping.wait(MEASURE_SECONDS):
            try:
                self.measure_one()
            except Exception as error:
                log.warning("image statistics not known", error=where_raised(error))

    def _keep_in_step(self) -> None:
        trouble = ""
        while not self._stopping.wait(SYNC_SECONDS):
            try:
                self.sync()
                trouble = ""
            except Exception as error:  # whatever a database or a disk is in trouble with: the pages go on
                now = str(error) if isinstance(error, MammoscopeError) else where_raised(error)
                if now != trouble:
                    log.warning("reading room not in step", error=now)
                trouble = now

    def _cut_ahead(self) -> None:
        """Keep the tiles of the studies that are read next cut, one image at a time, whenever nobody waits for one."""
        tried: set[tuple[int, Path]] = set()  # once: what cannot be cut is told to whoever opens it
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                if self._studies_ahead:
                    self.tiles.warm_up()
                for study in [*self._soon, *self.store.unread(self._studies_ahead)]:
                    for image in self.store.images(study):
                        while self.tiles.awaited and not self._stopping.wait(_PATIENCE_SECONDS):
                            pass
                        if self._stopping.is_set():
                            return
                        if (image.id, image.path) not in tried and self.cut_before(image) is None:
                            tried.add((image.id, image.path))
                            self.tiles.cut_ahead(image.path, name_of(image), _side(image))
                    if self._wake.is_set():
                        break  # somebody opened a study: the one after it comes first
            except (MammoscopeError, ValueError, SQLAlchemyError) as error:
                log.info("not cut ahead", error=where_raised(error))
            self._wake.wait(SYNC_SECONDS)


def _side(image: ImageRow) -> Laterality | None:
    return Laterality(image.laterality) if image.laterality else None


def name_of(image: ImageRow) -> str:
    """What a reader calls an image: its side and view, or else its number."""
    return f"{image.laterality or ''} {image.view or ''}".strip() or f"image {image.id}"
