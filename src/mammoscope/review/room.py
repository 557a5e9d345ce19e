"""`ReadingRoom`: what one reading room is made of, kept in step with where its studies come from."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from mammoscope.errors import MammoscopeError
from mammoscope.imaging import Laterality, MammogramError
from mammoscope.lifecycle import Running
from mammoscope.logging import where_raised
from mammoscope.node.audit.trail import AuditTrail
from mammoscope.review.accounts import Accounts
from mammoscope.review.errors import ForbiddenError
from mammoscope.review.sources import StudySource
from mammoscope.review.store import ImageRow, Place, ReadState, ReviewStore, SecondReader, StudyRow
from mammoscope.review.tiles import StoredPyramid, TileCache

SYNC_SECONDS = 2.0

log = structlog.get_logger(__name__)

Send = Callable[[StudyRow, str], str]
"""Sends what a study's readers came to (study, who asks), and gives one sentence that says so."""


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
    viewer_url
        Address of the site's own viewer, with ``{study}`` for the Study Instance UID.

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
        send: Send | None = None,
        viewer_url: str | None = None,
    ) -> None:
        self.source = source
        self.store = ReviewStore(folder, second_reader)
        self.accounts = Accounts(self.store.database)
        self.tiles = tiles or TileCache(folder / "tiles")
        self.send = send
        self.viewer_url = viewer_url
        self._audit = audit or AuditTrail(folder / "audit")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_in_step, name="reading room", daemon=True)
        self._ahead = threading.Semaphore(1)

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

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
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
        return self.tiles.pyramid(
            image.path, name_of(image), Laterality(image.laterality) if image.laterality else None
        )

    def cut_ahead(self, study: int) -> None:
        """Cut the tiles of a study in the background, if nothing else is cut ahead now."""
        if not self._ahead.acquire(blocking=False):
            return

        def cut() -> None:
            try:
                for image in self.store.images(study):
                    if self._stopping.is_set():
                        return
                    self.pyramid(image)
            except (MammoscopeError, MammogramError, ValueError) as error:
                log.info("not cut ahead", error=where_raised(error))
            finally:
                self._ahead.release()

        threading.Thread(target=cut, name="tiles", daemon=True).start()

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


def name_of(image: ImageRow) -> str:
    """What a reader calls an image: its side and view, or else its number."""
    return f"{image.laterality or ''} {image.view or ''}".strip() or f"image {image.id}"
