"""The folder of a collection's images, searched by the names that annotations use for them."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_unpacked, stored_size

_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm", ".bmp", ".dcm", ".dicom", ".dic", ".ima"}


class ImageFolder:
    r"""Finds images by full name, by the end of a path, or by the bare name where only one file has it.

    Annotations were often made on another machine: their names hold its folders (``C:\scans\a.png``), or none.

    Raises
    ------
    DatasetError
        If the folder is not there, is an archive, or holds no file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        check_unpacked(self.folder)
        if not self.folder.is_dir():
            raise DatasetError(f"the folder of images {self.folder} does not exist.")
        self.files = tuple(
            sorted(path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        )
        if not self.files:
            raise DatasetError(f"the folder of images {self.folder} is empty.")
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in self.files:
            self._by_name[path.name].append(path)
            if path.suffix.lower() in {*_PICTURES, ""}:
                self._by_stem[path.stem].append(path)

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The files that are images by their names; those without an ending, as DICOM files often are, by content."""
        return tuple(
            path
            for path in self.files
            if path.suffix.lower() in _PICTURES or (not path.suffix and stored_size(path) is not None)
        )

    def find(self, names: Iterable[str], where: str) -> Path:
        """The image of one of these names, the first that is there; a name without an ending finds any picture's.

        Raises
        ------
        DatasetError
            If there is none, or several.
        """
        tried = list(names)
        for name in tried:
            candidates = self._candidates(_parts(name))
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                raise DatasetError(
                    f"{where}: {len(candidates)} images in {self.folder} are called {name}: give their folders, too."
                )
        raise DatasetError(f"{where}: the image {tried[0]} is not in {self.folder}; is the download complete?")

    def size(self, path: Path, where: str) -> tuple[int, int]:
        """(rows, columns) from a file's header.

        Raises
        ------
        DatasetError
            If it is no picture or DICOM file.
        """
        size = stored_size(path)
        if size is None:
            raise DatasetError(f"{where}: {path} is neither a picture nor a DICOM file, or is damaged.")
        return size

    def name_of(self, path: Path) -> str:
        """The name within the folder, with ``/`` between folders."""
        return path.relative_to(self.folder).as_posix()

    def _candidates(self, parts: tuple[str, ...]) -> list[Path]:
        if not parts:
            return []
        same = self._by_name.get(parts[-1]) or self._by_stem.get(parts[-1]) or []
        if len(same) < 2:
            return same
        *folders, last = parts
        for skipped in range(len(folders) + 1):  # as many of its folders as fit
            end = (*folders[skipped:], last)
            fits = [path for path in same if _ends_with(path.relative_to(self.folder), end)]
            if len(fits) == 1:
                return fits
        return same


def _parts(name: str) -> tuple[str, ...]:
    path: PurePath = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    return tuple(part for part in path.parts if part not in {path.anchor, ".", ".."})


def _ends_with(path: PurePath, end: tuple[str, ...]) -> bool:
    parts = path.parts
    return (len(end) <= len(parts) and (*parts[len(parts) - len(end) : -1], path.stem) == (*end[:-1], end[-1])) or (
        parts[len(parts) - len(end) :] == end
    )
