"""Which files are images: told by their first bytes, never by their names alone."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from pathlib import Path

from mammoscope.imaging.mammogram import MammogramError

SNIFFED_BYTES = 512
"""How many bytes `sniff` wants to see."""

_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHER_PICTURES = (b"GIF8", b"BM", b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51", b"8BPS", b"\x76\x2f\x31\x01")
_PNM = re.compile(rb"P[1-6][\s#]")
_CMS = re.compile(rb"\x30[\x80-\x84].{0,4}\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07", re.DOTALL)
_VR = re.compile(rb"(A[EST]|C[S]|D[AST]|F[DL]|I[S]|L[OT]|O[BDFLVW]|P[N]|S[HLQSTV]|T[M]|U[CILNRSTV])")
_IMAGE_SUFFIXES = frozenset(
    (".dcm", ".dicom", ".dic", ".ima", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm", ".ppm", ".pnm")
)


class FileKind(Enum):
    """What the first bytes of a file look like."""

    DICOM = auto()
    PICTURE = auto()
    OTHER_PICTURE = auto()
    ENCRYPTED = auto()
    EMPTY = auto()
    OTHER = auto()


def sniff(start: bytes) -> FileKind:
    """What a file is, from its first `SNIFFED_BYTES`.

    DICOM is the prefix after the preamble (PS3.10 7.1), or, for files without either, a first element of group 0002 or
    0008.
    """
    if not start:
        return FileKind.EMPTY
    if start[128:132] == b"DICM":
        return FileKind.DICOM
    if start.startswith(_PICTURES) or _PNM.match(start):
        return FileKind.PICTURE
    if start.startswith(_OTHER_PICTURES) or (start.startswith(b"RIFF") and start[8:12] == b"WEBP"):
        return FileKind.OTHER_PICTURE
    if _CMS.match(start):
        return FileKind.ENCRYPTED
    return FileKind.DICOM if _starts_with_element(start) else FileKind.OTHER


def find_files(paths: Iterable[Path | str]) -> list[Path]:
    """The images among files and folders.

    A file that is named is always taken. Of a folder, everything below it is taken in natural order (``image2`` before
    ``image10``) except hidden files and folders, DICOMDIR, and files that are no image by their first bytes and by
    their suffix. Whatever looks like an image is kept, even where reading will refuse it, so that no image is passed
    over in silence.

    Parameters
    ----------
    paths
        Files and folders; each file is returned once, at its first place.

    Raises
    ------
    MammogramError
        If a path does not exist or a folder cannot be read.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            images = filter(_may_be_image, files_below(path))
            found.update(dict.fromkeys(sorted(images, key=lambda p: _natural(p.relative_to(path)))))
        elif path.exists():
            found[path] = None
        else:
            raise MammogramError(f"{path} does not exist: check the path.")
    return list(found)


def files_below(folder: Path) -> Iterator[Path]:
    """All regular files of a folder, links followed; without hidden ones, DICOMDIR and what macOS puts into archives.

    A name that leads nowhere is given too: whoever opens it says so.

    Raises
    ------
    MammogramError
        If a folder cannot be read.
    """
    visited: set[Path] = set()

    def refuse(error: OSError) -> None:
        raise MammogramError(f"the folder {error.filename} cannot be read: check its permissions.") from error

    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = Path(root).resolve()
        if real in visited:  # a link back up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for name in names:
            path = Path(root, name)
            if not name.startswith(".") and name.upper() != "DICOMDIR" and not _waits_for_ever(path):
                yield path


def _waits_for_ever(path: Path) -> bool:
    """Whether it is a pipe or a device, which nobody should open."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _may_be_image(path: Path) -> bool:
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return sniff(file.read(SNIFFED_BYTES)) not in (FileKind.OTHER, FileKind.EMPTY)
    except OSError:
        return path.exists()  # reading it will say why it cannot be read; a link that leads nowhere is no image


def _natural(path: Path) -> list[list[tuple[int, int | str]]]:
    return [
        [(0, int(word)) if word.isdecimal() else (1, word.casefold()) for word in re.split(r"(\d+)", part) if word]
        for part in path.parts
    ]


def _starts_with_element(start: bytes) -> bool:
    little, big = start[:2], start[1::-1]
    if len(start) < 16:
        return False
    if _VR.match(start, 4):
        return little in (b"\x02\0", b"\x08\0") or big in (b"\x02\0", b"\x08\0")
    # Implicit VR: the first element of an image object is short (a group length, a character set, a UID)
    return little in (b"\x02\0", b"\x08\0") and 0 < int.from_bytes(start[4:8], "little") <= 64
