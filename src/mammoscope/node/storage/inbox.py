"""`Inbox`: the images that were acknowledged, one folder a study, one file an object, named by their UIDs."""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import structlog
from pydicom.uid import SecondaryCaptureImageStorage

from mammoscope.imaging import MammogramError, MammogramUnavailableError, read_mammogram_header
from mammoscope.imaging.dicom import says_mammogram
from mammoscope.imaging.header import header_length
from mammoscope.logging import where_raised
from mammoscope.network import IGNORED_SOP_CLASSES, REPORTED_SOP_CLASSES, Receipt, ReceivedObject
from mammoscope.node.storage.durable_files import make_folder, sync, write_whole

log = structlog.get_logger(__name__)


class Inbox:
    """Keeps images until they are read, and a while longer.

    Parameters
    ----------
    folder
        On the file system on which objects arrive.
    is_known
        Whether an object of that Study and SOP Instance UID was read, or made, by this node before.
    """

    def __init__(self, folder: Path, is_known: Callable[[str, str], bool]) -> None:
        self._folder = folder
        self._is_known = is_known
        self._lock = threading.Lock()
        make_folder(folder)

    def add(self, received: ReceivedObject) -> Receipt:
        """Keep an object, synced to disk when this returns.

        What no mammogram can be (reports, presentation states, screenshots) is ignored; a resend changes nothing. Of
        what is reported but not read (`mammoscope.network.REPORTED_SOP_CLASSES`) the pixels are not kept.

        Raises
        ------
        OSError
            If it cannot be kept.
        """
        if not _may_be_mammogram(received):
            return Receipt.IGNORED
        study, uid = received.study_instance_uid, received.sop_instance_uid
        if self._is_known(study, uid):
            return Receipt.KNOWN
        if received.sop_class_uid in REPORTED_SOP_CLASSES:
            _cut_off_pixels(received.path)
        sync(received.path)
        receipt = Receipt.STORED
        with self._lock:
            folder = self._folder / study
            folder.mkdir(mode=0o700, exist_ok=True)
            try:
                # Linking is atomic, and unlike renaming it fails where the same object already lies.
                os.link(received.path, self.image(study, uid))
            except FileExistsError:
                receipt = Receipt.KNOWN
        sync(folder)
        sync(self._folder)
        return receipt

    def studies(self) -> list[str]:
        """Study Instance UIDs with images here."""
        return sorted(f.name for f in self._folder.iterdir() if f.is_dir())

    def images(self, study: str) -> list[Path]:
        """List the files of a study, each named by its SOP Instance UID."""
        return sorted((self._folder / study).glob("*.dcm"))

    def remove(self, study: str, only_if: Callable[[list[Path]], bool]) -> bool:
        """Delete a study's images if ``only_if`` agrees to those that lie here now; return whether it did."""
        with self._lock:
            agreed = only_if(self.images(study))
            if agreed:
                shutil.rmtree(self._folder / study, ignore_errors=True)
        return agreed

    def bring_back(self, study: str, sop_instances: Collection[str], folder: Path) -> None:
        """Move images of a study back that were moved away, from the folders in ``folder``, where they are missing."""
        target = self._folder / study
        with self._lock:
            there = {file.stem: file for file in sorted(folder.glob("*/*.dcm"))}
            missing = [there[uid] for uid in sop_instances if uid in there and not self.image(study, uid).exists()]
            if missing:
                target.mkdir(exist_ok=True)
            for file in missing:
                file.replace(target / file.name)
        if missing:
            sync(target)
            sync(self._folder)

    def clear_away(self, sop_instances: Collection[str], folder: Path) -> None:
        """Delete what was moved away of images that need it no longer, and the folders where none is left."""
        for moved in folder.glob("*"):
            for file in moved.glob("*.dcm"):
                if file.stem in sop_instances:
                    file.unlink()
            if not any(moved.glob("*.dcm")):
                shutil.rmtree(moved)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def image(self, study: str, sop_instance: str) -> Path:
        """Where an image is, if it is here."""
        return self._folder / study / f"{sop_instance}.dcm"

    def move(self, files: Sequence[Path], target: Path, reason: Mapping[str, object]) -> None:
        """Move images of one study to a new folder of the same file system, with a file that says why.

        Images of the study that are not named stay: one that has arrived since was not part of what went wrong.
        """
        make_folder(target)
        write_whole(target / "reason.json", json.dumps(reason, indent=2) + "\n")
        with self._lock:
            for file in files:
                if file.exists():  # not moved by a try that a crash cut short
                    file.rename(target / file.name)
            for folder in {file.parent for file in files}:
                if folder.exists() and not any(folder.iterdir()):
                    folder.rmdir()
        sync(target)
        sync(self._folder)


def _may_be_mammogram(received: ReceivedObject) -> bool:
    if received.sop_class_uid in IGNORED_SOP_CLASSES:
        return False
    # Digitised film comes as secondary capture, but so does every screenshot.
    if received.sop_class_uid != SecondaryCaptureImageStorage or received.modality == "MG":
        return True
    try:
        return says_mammogram(read_mammogram_header(received.path, name=received.sop_instance_uid))
    except MammogramUnavailableError as error:  # the sender tries again later
        raise OSError(errno.EIO, str(error)) from error
    except MammogramError as error:
        log.warning("header not readable", image=received.sop_instance_uid, error=where_raised(error))
        return False


def _cut_off_pixels(path: Path) -> None:
    """Shorten a file to what stands before its pixel data, which may be gigabytes that nobody will look at."""
    try:
        length = header_length(path)
    except MammogramError:  # damaged: kept as it came, and reported as what it is
        return
    if length is not None:
        os.truncate(path, length)
