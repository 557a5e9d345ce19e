"""`TileCache`: pyramids on disk, one file each, cut when somebody first looks."""

import contextlib
import hashlib
import json
import math
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from mammoscope.findings import Box
from mammoscope.imaging import (
    TILE,
    Display,
    Laterality,
    MammogramError,
    MammogramReader,
    TilePyramid,
    attributes,
    find_breast_region,
    tile_number,
    unpacked,
)
from mammoscope.reasons import ReasonCode
from mammoscope.results.view_matching import is_whole_breast, nipple_column
from mammoscope.review.errors import NotFoundError
from mammoscope.review.tiles.windowing import coarsest_greys, first_greys, preview_of

PATCH_SIDE = 320
"""Pixels of the longer side of a patch, at most."""

BREAST_ROWS = 24
"""In how many rows it is kept where the breast lies."""

MOST_OPEN = 200
"""Pyramids of which the table of contents is kept in memory."""

_FORMAT = 3
"""Part of the digest: what was cut in another way is cut again."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredPyramid:
    """A pyramid on disk.

    Parameters
    ----------
    digest
        SHA-256 of the image file and of the side that it hangs on: names the tiles for as long as they are cached.
    spacing_mm
        Distance of pixel centres (down, across) where the file says it (`mammoscope.imaging.attributes.spacing`).
    nipple_x
        Column of the file, in pixels, in which the foremost edge of a whole breast is; ``None`` where there is none.
    breast
        Where the breast lies as it hangs: (y, x0, x1) in native pixels of some rows, from the top; empty where none is
        found.
    """

    digest: str
    file: Path
    display: Display
    ends: tuple[int, ...]
    spacing_mm: tuple[float, float] | None = None
    nipple_x: float | None = None
    breast: tuple[tuple[int, int, int], ...] = ()


class TileCache:
    """Cuts and keeps pyramids in a folder. Safe to use from several threads.

    Parameters
    ----------
    folder
        Made if it is not there; readable by this account only.
    workers
        How many images are cut at once, each in a process of its own.
    most_bytes
        Beyond it the pyramids that nobody asked for longest are deleted.
    """

    def __init__(self, folder: Path, workers: int = 2, most_bytes: int = 20 << 30) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for partial in folder.glob(".*.part"):
            partial.unlink(missing_ok=True)
        self._reader = MammogramReader(workers)
        self._lock = threading.Lock()
        self._cutting: dict[str, threading.Lock] = {}
        self._awaited = 0
        self._sources: dict[str, Path] = {}
        self._open: OrderedDict[str, StoredPyramid] = OrderedDict()
        self._digests: dict[tuple[str, int, int], str] = {}

    def warm_up(self) -> None:
        """Start a decoding process before somebody waits for it.

        Raises
        ------
        MammogramUnavailableError
            If none starts.
        ValueError
            If the cache is closed.
        """
        self._reader.warm_up()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for an image that is being cut: then nothing is cut ahead."""
        return self._awaited > 0

    def close(self) -> None:
        """End the decoding processes."""
        self._reader.close()

    @property
    def reader(self) -> MammogramReader:
        """What decodes."""
        return self._reader

    def pyramid(self, path: Path, name: str, laterality: Laterality | None = None) -> StoredPyramid:
        """The pyramid of an image file, cut now if it is not there.

        Parameters
        ----------
        name
            What messages call the image.

        Raises
        ------
        NotFoundError
            If the file is no longer there.
        MammogramError
            If it cannot be decoded.
        """
        found = self.cut_before(path, name, laterality)
        if found is not None:
            return found
        with self._lock:
            self._awaited += 1
        try:
            return self._cut_once(path, name, laterality)
        finally:
            with self._lock:
                self._awaited -= 1

    def cut_before(self, path: Path, name: str, laterality: Laterality | None = None) -> StoredPyramid | None:
        """The pyramid of an image file if it is there; nothing is cut.

        Raises
        ------
        NotFoundError
            If the file is no longer there.
        MammogramError
            If it cannot be opened.
        """
        return self._stored(self._digest(path, name, laterality))

    def cut_ahead(self, path: Path, name: str, laterality: Laterality | None = None) -> None:
        """Cut an image that nobody waits for yet.

        Raises
        ------
        NotFoundError, MammogramError
            As `pyramid`.
        """
        self._cut_once(path, name, laterality)

    def preview(self, pyramid: StoredPyramid) -> bytes:
        """A small picture (JPEG) of the whole image as it hangs, by its first curve.

        Raises
        ------
        NotFoundError
            If it is no longer there.
        """
        return preview_of(coarsest_greys(self.tile(pyramid, 0, 0, 0), pyramid.display))

    def patch(self, pyramid: StoredPyramid, box: Box) -> bytes:
        """A box with half its size around it on each side, as it hangs, by the first curve: a small picture (JPEG).

        Raises
        ------
        NotFoundError
            If it lies outside of the image, or the image is no longer there.
        """
        display = pyramid.display
        grown = Box(
            box.x0 - box.width / 2, box.y0 - box.height / 2, box.x1 + box.width / 2, box.y1 + box.height / 2
        ).clipped(display.rows, display.columns)
        if grown is None:
            raise NotFoundError("that box lies outside of the image.")
        finest = len(display.levels) - 1
        level = max(0, finest - max(0, math.ceil(math.log2(max(grown.width, grown.height) / PATCH_SIDE))))
        scale = 2 ** (finest - level)
        x = sorted(display.columns - edge if display.mirrored else edge for edge in (grown.x0, grown.x1))
        y = sorted(display.rows - edge if display.upside_down else edge for edge in (grown.y0, grown.y1))
        rows, columns = display.levels[level]
        left, top = min(int(x[0] / scale), columns - 1), min(int(y[0] / scale), rows - 1)
        right, bottom = (
            min(max(math.ceil(x[1] / scale), left + 1), columns),
            min(max(math.ceil(y[1] / scale), top + 1), rows),
        )
        shown = [
            np.hstack(
                [
                    unpacked(self.tile(pyramid, level, column, row))
                    for column in range(left // TILE, (right - 1) // TILE + 1)
                ]
            )
            for row in range(top // TILE, (bottom - 1) // TILE + 1)
        ]
        down, across = top // TILE * TILE, left // TILE * TILE
        values = np.vstack(shown)[top - down : bottom - down, left - across : right - across]
        return preview_of(first_greys(values, display))

    def _cut_once(self, path: Path, name: str, laterality: Laterality | None) -> StoredPyramid:
        digest = self._digest(path, name, laterality)
        with self._lock:
            turn = self._cutting.setdefault(digest, threading.Lock())
        with turn:  # whoever asks while it is cut waits, and does not cut it again
            found = self._stored(digest)
            return found if found is not None else self._cut(path, name, laterality, digest)

    def tile(self, pyramid: StoredPyramid, level: int, column: int, row: int) -> bytes:
        """One tile, compressed by gzip.

        Raises
        ------
        NotFoundError
            If the pyramid has no such tile, or is no longer there.
        """
        number = tile_number(pyramid.display.levels, level, column, row)
        if number is None:
            raise NotFoundError("the image has no such tile.")
        begin = pyramid.ends[number - 1] if number else 0
        try:
            with pyramid.file.open("rb") as file:
                return os.pread(file.fileno(), pyramid.ends[number] - begin, begin)
        except FileNotFoundError:
            with self._lock:
                self._open.pop(pyramid.digest, None)
            raise NotFoundError("the image is no longer kept here.") from None

    def drop_orphans(self) -> int:
        """Delete the pyramids of files that are no longer there, and return how many they were."""
        dropped = 0
        for contents in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                source = self._sources.get(contents.stem) or Path(json.loads(contents.read_bytes())["source"])
                self._sources[contents.stem] = source
                if not source.exists():
                    self._drop(contents.stem)
                    dropped += 1
        return dropped

    def _digest(self, path: Path, name: str, laterality: Laterality | None) -> str:
        try:
            stat = path.stat()
            key = str(path), stat.st_size, stat.st_mtime_ns
            content = self._digests.get(key)
            if content is None:
                with path.open("rb") as file:
                    content = self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise NotFoundError(f"the image {name} is no longer kept here.") from None
        except OSError as error:
            raise MammogramError(f"the image {name} cannot be opened ({error.strerror}).", ReasonCode.MACHINE) from None
        return hashlib.sha256(f"{_FORMAT} {content} {laterality or ''}".encode()).hexdigest()

    def _stored(self, digest: str) -> StoredPyramid | None:
        with self._lock:
            found = self._open.get(digest)
            if found is not None:
                self._open.move_to_end(digest)
        if found is None:
            try:
                said = json.loads((self._folder / f"{digest}.json").read_bytes())
                spacing = said["spacing_mm"]
                found = StoredPyramid(
                    digest,
                    self._folder / f"{digest}.tiles",
                    Display.model_validate(said["display"]),
                    tuple(said["ends"]),
                    None if spacing is None else (spacing[0], spacing[1]),
                    said["nipple_x"],
                    tuple((y, x0, x1) for y, x0, x1 in said["breast"]),
                )
            except (OSError, ValueError, KeyError, TypeError):
                return None
        if not found.file.is_file():
            return None
        with contextlib.suppress(OSError):
            os.utime(found.file)
        self._remember(found)
        return found

    def _remember(self, pyramid: StoredPyramid) -> None:
        with self._lock:
            self._open[pyramid.digest] = pyramid
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)

    def _cut(self, path: Path, name: str, laterality: Laterality | None, digest: str) -> StoredPyramid:
        pyramid, header = self._reader.read_pyramid(path, name, laterality=laterality)
        spacing = None if header is None else attributes.spacing(header)
        distances = None if spacing is None else (spacing.row_mm, spacing.column_mm)
        modifiers = () if header is None else attributes.view_modifiers(header)
        self._make_room(pyramid)
        stored = StoredPyramid(
            digest,
            self._folder / f"{digest}.tiles",
            pyramid.display,
            tuple(map(int, pyramid.ends)),
            distances,
            _nipple_x(pyramid) if is_whole_breast(modifiers) else None,
            _breast(pyramid),
        )
        contents = {
            "source": str(path.absolute()),
            "display": pyramid.display.model_dump(mode="json"),
            "ends": stored.ends,
            "spacing_mm": distances,
            "nipple_x": stored.nipple_x,
            "breast": stored.breast,
        }
        try:
            self._write(f"{digest}.tiles", pyramid.tiles.tobytes())
            self._write(f"{digest}.json", json.dumps(contents).encode())
        except OSError as error:
            raise MammogramError(
                f"the tiles of {name} cannot be written ({error.strerror}): make room on the disk of the reading room.",
                ReasonCode.MACHINE,
            ) from None
        self._remember(stored)
        return stored

    def _write(self, name: str, content: bytes) -> None:
        partial = self._folder / f".{name}.{threading.get_ident()}.part"
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            partial.replace(self._folder / name)
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, pyramid: TilePyramid) -> None:
        files = [(file.stat().st_mtime, file.stat().st_size, file.stem) for file in self._folder.glob("*.tiles")]
        taken = sum(size for _, size, _ in files) + pyramid.tiles.size
        for _, size, digest in sorted(files):
            if taken <= self._most_bytes:
                return
            self._drop(digest)
            taken -= size

    def _drop(self, digest: str) -> None:
        with self._lock:
            self._open.pop(digest, None)
            self._sources.pop(digest, None)
        for suffix in ("json", "tiles"):
            (self._folder / f"{digest}.{suffix}").unlink(missing_ok=True)


def _breast(pyramid: TilePyramid) -> tuple[tuple[int, int, int], ...]:
    """The longest run of breast in each of some rows."""
    display = pyramid.display
    mask = find_breast_region(coarsest_greys(pyramid.tiles[: pyramid.ends[0]].tobytes(), display)).mask
    rows, columns = mask.shape
    found = []
    for row in range(rows // BREAST_ROWS // 2, rows, max(rows // BREAST_ROWS, 1)):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], mask[row].astype(np.int8), [0]))))
        if len(edges):
            starts, ends = edges[::2], edges[1::2]
            longest = int(np.argmax(ends - starts))
            x0, x1 = (round(edge * display.columns / columns) for edge in (starts[longest], ends[longest]))
            found.append((round((row + 0.5) * display.rows / rows), x0, x1))
    return tuple(found)


def _nipple_x(pyramid: TilePyramid) -> float | None:
    display = pyramid.display
    found = nipple_column(coarsest_greys(pyramid.tiles[: pyramid.ends[0]].tobytes(), display))
    if found is None:
        return None
    return display.columns * (1 - found if display.mirrored else found)
