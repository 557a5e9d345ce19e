"""Results on their way out: `Outbox` keeps them on disk, a `Courier` a destination tries until they are there."""

import heapq
import itertools
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog
from pydicom.dataset import FileDataset

from mammoscope.network import Destination, NetworkError, Sending
from mammoscope.node.disk import move_folder, sync, write_whole
from mammoscope.node.log import where_raised

FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parcel:
    """The result objects of one report of one study."""

    study: str
    number: int
    files: tuple[Path, ...]


class Outbox:
    """Result objects until every destination has them: ``<study>/<number of the report>/<order>-<UID>.dcm``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob("*/.*.part"):
            shutil.rmtree(partial)

    def put(self, study: str, number: int, objects: Sequence[FileDataset]) -> Parcel:
        """Write a report's objects, all or none, synced to disk when this returns."""
        partial = self._folder / study / f".{number}.part"
        if partial.exists():  # a try that a full disk ended
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        for order, dataset in enumerate(objects, start=1):
            file = partial / f"{order:03d}-{dataset.SOPInstanceUID}.dcm"
            dataset.save_as(file, enforce_file_format=True)
            sync(file)
        sync(partial)
        move_folder(partial, self._at(study, number))
        sync(self._folder)
        return self._parcel(study, number)

    def parcels(self) -> Iterator[Parcel]:
        """Yield what lies here, for example after a restart."""
        for folder in sorted(self._folder.glob("*/[0-9]*")):
            yield self._parcel(folder.parent.name, int(folder.name))

    def discard(self, parcel: Parcel) -> None:
        """Delete a report that every destination has."""
        shutil.rmtree(self._at(parcel.study, parcel.number))
        self._forget_if_empty(parcel.study)

    def set_aside(self, parcel: Parcel, target: Path, reason: Mapping[str, object]) -> None:
        """Move a report that could not be delivered everywhere, with a file that says why."""
        folder = self._at(parcel.study, parcel.number)
        write_whole(folder / "reason.json", json.dumps(reason, indent=2) + "\n")
        move_folder(folder, target)
        self._forget_if_empty(parcel.study)

    def _at(self, study: str, number: int) -> Path:
        return self._folder / study / str(number)

    def _parcel(self, study: str, number: int) -> Parcel:
        return Parcel(study, number, tuple(sorted(self._at(study, number).glob("*.dcm"))))

    def _forget_if_empty(self, study: str) -> None:
        folder = self._folder / study
        if not any(folder.iterdir()):
            folder.rmdir()


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the sending of a parcel to one destination ended: no ``errors`` when all of it arrived."""

    parcel: Parcel
    destination: Destination
    tries: int
    errors: tuple[str, ...] = ()


class Client(Protocol):
    """What a courier needs to send; `mammoscope.network.StorageClient` is one."""

    def send(self, objects: Sequence[Path], destination: Destination) -> tuple[Sending, ...]:
        """Send files, in order."""


@dataclass(order=True, slots=True)
class _Errand:
    due: float
    order: int
    parcel: Parcel = field(compare=False)
    left: list[Path] = field(compare=False)
    give_up_at: float = field(compare=False)
    tries: int = field(default=0, compare=False)
    refusals: list[str] = field(default_factory=list, compare=False)


class Courier:
    """Sends parcels to one destination, each again and again, after longer and longer waits, until it gives up.

    An object that the destination refuses for what it is is not tried again; the others of its parcel are.

    Parameters
    ----------
    on_done
        Called in the courier's thread when a parcel arrived or was given up.
    retry_seconds
        How long after its first try a parcel is given up.
    clock
        Seconds that never go back.
    """

    def __init__(
        self,
        destination: Destination,
        client: Client,
        on_done: Callable[[Delivery], None],
        *,
        retry_seconds: float,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.destination = destination
        self._client = client
        self._on_done = on_done
        self._retry_seconds = retry_seconds
        self._first_wait = first_wait_seconds
        self._clock = clock
        self._errands: list[_Errand] = []
        self._orders = itertools.count()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"courier {destination.name}", daemon=True)

    def start(self) -> None:
        """Begin to send what is posted."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Finish the parcel in hand, and leave the others where they lie."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def post(self, parcel: Parcel) -> None:
        """Take a parcel to send."""
        now = self._clock()
        with self._changed:
            errand = _Errand(now, next(self._orders), parcel, list(parcel.files), now + self._retry_seconds)
            heapq.heappush(self._errands, errand)
            self._changed.notify()

    def seconds_until_next(self) -> float | None:
        """Seconds until the next try, 0 when one is due, ``None`` when there is nothing to send."""
        with self._changed:
            return max(0.0, self._errands[0].due - self._clock()) if self._errands else None

    def try_next(self) -> None:
        """Try the parcel that is due first, if one is due."""
        with self._changed:
            if not self._errands or self._errands[0].due > self._clock():
                return
            errand = heapq.heappop(self._errands)
        trouble = self._try(errand)
        if errand.left and self._clock() < errand.give_up_at:
            wait = min(self._first_wait * 2.0 ** min(errand.tries - 1, 30), LONGEST_WAIT_SECONDS)
            errand.due = self._clock() + wait
            log.warning(
                "results not sent yet",
                study=errand.parcel.study,
                destination=self.destination.name,
                tries=errand.tries,
                retry_in_seconds=round(wait),
                reason=trouble[0],
            )
            with self._changed:
                heapq.heappush(self._errands, errand)
            return
        errors = (*errand.refusals, *trouble)
        self._on_done(Delivery(errand.parcel, self.destination, errand.tries, errors))

    def _try(self, errand: _Errand) -> list[str]:
        """Send what is left of a parcel; return what kept back that which is left now."""
        errand.tries += 1
        try:
            sendings = self._client.send(errand.left, self.destination)
        except NetworkError as error:
            return [str(error)]
        except Exception as error:
            log.warning("sending failed", study=errand.parcel.study, error=where_raised(error))
            errand.left = []
            return [f"the results cannot be sent ({type(error).__name__})"]
        errand.refusals += [str(s.error) for s in sendings if s.error and not s.error.worth_retrying]
        kept = [(f, s.error) for f, s in zip(errand.left, sendings, strict=True) if s.error and s.error.worth_retrying]
        errand.left = [file for file, _ in kept]
        return [str(error) for _, error in kept]

    def _run(self) -> None:
        while not self._stopping:
            try:
                self.try_next()
            except Exception as error:  # a courier that dies is worse than a parcel left on disk until the next start
                log.warning("courier stumbled", destination=self.destination.name, error=where_raised(error))
            wait = self.seconds_until_next()
            with self._changed:
                if not self._stopping and (wait is None or wait > 0) and not self._has_due():
                    self._changed.wait(wait)

    def _has_due(self) -> bool:
        return bool(self._errands) and self._errands[0].due <= self._clock()
