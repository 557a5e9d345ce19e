"""`HeatMaps`: why the model sees a finding where a reader looks, worked out on demand and kept.

One map is made at a time, in a process of the lowest priority (`mammoscope.explain.ExplainingProcess`): who reads never
waits for it. A map is kept by what decides it, and goes when its image goes.
"""

import hashlib
import json
import os
import queue
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np
import structlog

from mammoscope import __version__
from mammoscope.errors import MammoscopeError
from mammoscope.explain import ExplainingProcess, HeatMap, Occlusion
from mammoscope.findings import Box, Finding
from mammoscope.imaging import Display, MammogramError, MammogramReader
from mammoscope.lifecycle import Closing
from mammoscope.logging import where_raised
from mammoscope.reasons import ReasonCode
from mammoscope.review.errors import NotFoundError, ReviewError

MOST_WAITING = 8
"""Maps that are asked for and not begun; further ones are refused."""

MOST_KEPT = 2000
"""Maps on disk, of some 20 kilobytes each; beyond them the oldest go."""

_MOST_REMEMBERED = 200
_LONGEST_SIDE = 512
_COLOUR_BGR = (0, 110, 255)
_MOST_OPAQUE = 0.75

log = structlog.get_logger(__name__)


class Stage(StrEnum):
    """How far a map is."""

    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class HeatMapState:
    """How far a map is, and what it is once it is done.

    Parameters
    ----------
    key
        Names it: SHA-256 of what decides it.
    done, total
        Masks.
    extent
        x0, y0, x1, y1 of what the network saw, in pixels of the image file.
    says
        One sentence: what made it and how far to trust it, or why there is none.
    """

    key: str
    stage: Stage
    done: int = 0
    total: int = 0
    extent: tuple[float, float, float, float] | None = None
    says: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a map is of.

    Parameters
    ----------
    path, name
        The image's file, and what messages call it.
    digest
        Of its pyramid.
    display
        How it hangs: the map's picture hangs the same way.
    """

    path: Path
    name: str
    digest: str
    display: Display
    box: Box
    label: str


class HeatMaps(Closing):
    """Makes and keeps maps in a folder. Safe to use from several threads.

    Parameters
    ----------
    folder
        Made when the first map is asked for; readable by this account only.
    reader
        Reads the images.
    bundle
        The model's file; ``None`` for the shipped one.
    occlusion
        How parts of the image are hidden.
    """

    def __init__(
        self, folder: Path, reader: MammogramReader, bundle: Path | None = None, occlusion: Occlusion | None = None
    ) -> None:
        self._folder = folder
        self._reader = reader
        self._bundle = bundle
        self._occlusion = occlusion or Occlusion()
        self._model = _name_of_model(bundle)
        self._lock = threading.Lock()
        self._states: OrderedDict[str, HeatMapState] = OrderedDict()
        self._queue: queue.Queue[tuple[str, Asked] | None] = queue.Queue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def state(self, asked: Asked) -> HeatMapState:
        """How far the map is; whoever asks for the first time begins it, and for a failed one begins it again.

        Raises
        ------
        ReviewError
            If `MOST_WAITING` wait already.
        """
        parts = (asked.digest, self._model, self._occlusion, asked.box.as_tuple(), asked.label)
        key = hashlib.sha256(repr([str(part) for part in parts]).encode()).hexdigest()
        with self._lock:
            found = self._states.get(key) or self._kept(key)
            if found is not None:
                if found.stage is Stage.FAILED:
                    del self._states[key]
                return found
            waiting = sum(state.stage is Stage.WAITING for state in self._states.values())
            if waiting >= MOST_WAITING:
                raise ReviewError(f"{waiting} heat maps wait already: ask again when one is done.")
            self._queue.put((key, asked))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="heat maps", daemon=True)
                self._thread.start()
            return self._remember(HeatMapState(key, Stage.WAITING, total=self._occlusion.masks))

    def picture(self, key: str) -> bytes:
        """A map as it hangs: PNG, the more opaque the more a spot speaks for the finding.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        try:
            return (self._folder / f"{key}.png").read_bytes()
        except OSError:
            raise NotFoundError("that heat map is no longer kept: ask for it again.") from None

    def drop_orphans(self) -> None:
        """Delete the maps of images that are no longer there, and the oldest beyond `MOST_KEPT`."""
        if self._thread is None and not self._folder.is_dir():
            return
        files = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for place, file in enumerate(files):
            try:
                lost = not Path(json.loads(file.read_bytes())["source"]).exists()
            except (OSError, ValueError, KeyError):
                lost = True
            if lost or place < len(files) - MOST_KEPT:
                with self._lock:
                    self._states.pop(file.stem, None)
                file.unlink(missing_ok=True)
                file.with_suffix(".png").unlink(missing_ok=True)

    def close(self) -> None:
        """Give up what is under way."""
        self._stopping.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _remember(self, state: HeatMapState) -> HeatMapState:
        self._states[state.key] = state
        self._states.move_to_end(state.key)
        for key in list(self._states)[:-_MOST_REMEMBERED]:
            if self._states[key].stage in (Stage.DONE, Stage.FAILED):
                del self._states[key]
        return state

    def _kept(self, key: str) -> HeatMapState | None:
        try:
            said = json.loads((self._folder / f"{key}.json").read_bytes())
            x0, y0, x1, y1 = said["extent"]
            state = HeatMapState(key, Stage.DONE, said["masks"], said["masks"], (x0, y0, x1, y1), said["says"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return self._remember(state)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None and not self._stopping.is_set():
            key, asked = job
            try:
                state = self._made(key, asked)
            except (_StoppedError, ValueError):  # the reading room ends, and the decoders with it
                return
            except MammoscopeError as error:
                state = HeatMapState(key, Stage.FAILED, says=_sentence(str(error)))
            except Exception as error:  # whatever it is, the next map is to be made
                log.warning("heat map failed", error=where_raised(error))
                state = HeatMapState(key, Stage.FAILED, says="The heat map could not be made: the log says why.")
            with self._lock:
                self._remember(state)

    def _made(self, key: str, asked: Asked) -> HeatMapState:
        started = HeatMapState(key, Stage.WORKING, total=self._occlusion.masks)

        def progress(done: int, _: int) -> None:
            if self._stopping.is_set():
                raise _StoppedError
            with self._lock:
                self._remember(replace(started, done=done))

        progress(0, 0)
        with ExplainingProcess(self._bundle) as process:
            wanted = process.metadata.input
            mammogram = self._reader.read_reduced(asked.path, asked.name, preprocessing=wanted.preprocessing)
            if mammogram.network_input is None:
                raise MammogramError(f"{asked.name} was not prepared for the model.", ReasonCode.MODEL_FAILED)
            finding = Finding(asked.box, 0.0, asked.label)
            [heat_map] = process.drise(mammogram.network_input, [finding], self._occlusion, progress)
            says = _says(heat_map, f"{process.metadata.name} {process.metadata.version}")
        place, (rows, columns) = heat_map.placement, heat_map.values.shape
        right, bottom = place.left + columns * place.x_scale, place.top + rows * place.y_scale
        state = replace(
            started, stage=Stage.DONE, done=started.total, extent=(place.left, place.top, right, bottom), says=says
        )
        self._write(state, heat_map, asked)
        return state

    def _write(self, state: HeatMapState, heat_map: HeatMap, asked: Asked) -> None:
        contents = {
            "source": str(asked.path.absolute()),
            "extent": state.extent,
            "masks": state.total,
            "says": state.says,
        }
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self._folder / f"{state.key}.png", _picture(heat_map, asked.display))
            _write(self._folder / f"{state.key}.json", json.dumps(contents).encode())
        except OSError as error:
            raise ReviewError(
                f"the heat map cannot be written ({error.strerror}): make room on the disk of the reading room."
            ) from None


class _StoppedError(Exception):
    """The reading room ends."""


def _write(file: Path, content: bytes) -> None:
    partial = file.with_suffix(".part")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(content)
    partial.replace(file)


def _picture(heat_map: HeatMap, display: Display) -> bytes:
    """One colour throughout: the anatomy stays to be seen, and nobody reads two meanings into two hues."""
    rows, columns = heat_map.values.shape
    scale = min(1.0, _LONGEST_SIDE / max(rows, columns))
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    share = np.clip(heat_map.values / (heat_map.peak or 1.0), 0, 1).astype(np.float32)
    share = np.asarray(cv2.resize(share, size, interpolation=cv2.INTER_AREA))
    share = share[:: -1 if display.upside_down else 1, :: -1 if display.mirrored else 1]
    picture = np.empty((*share.shape, 4), np.uint8)
    picture[..., :3] = _COLOUR_BGR
    picture[..., 3] = np.rint(255 * _MOST_OPAQUE * share)
    done, png = cv2.imencode(".png", picture)
    assert done, "a picture always becomes a PNG"
    return png.tobytes()


def _says(heat_map: HeatMap, model: str) -> str:
    if heat_map.peak == 0:
        return f"{model} sees nothing here, whatever is hidden: there is no heat."
    words = f"Where {model} needs to see the image for this box ({heat_map.method})"
    if heat_map.noisy:
        return f"{words}. A noisy map (agreement {heat_map.agreement:.2f}): do not trust it."
    return f"{words}, agreement {heat_map.agreement:.2f}."


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")


def _name_of_model(bundle: Path | None) -> str:
    if bundle is None:
        return f"shipped with {__version__}"
    try:
        with bundle.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return str(bundle)  # told when a map is asked for
