"""A data set's folder that appears whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from mammoscope.datasets.dataset import ANNOTATIONS
from mammoscope.datasets.errors import DatasetError


class ImagesAs(StrEnum):
    """How images get into a data set's folder."""

    LINKED = "linked"
    """Hard links, which cost no space; copies where the file system allows none."""
    SYMBOLIC = "symbolic"
    """Symbolic links to where the images lie: for archives on another file system; they must stay there."""
    COPIED = "copied"


@contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill, which becomes ``out`` when the block ends without an error, and is removed otherwise.

    Parameters
    ----------
    overwrite
        Replace ``out`` if it is a data set's folder.

    Raises
    ------
    DatasetError
        If ``out`` is there and may not be replaced, or cannot be written.
    """
    check_target(out, overwrite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
        try:
            yield partial
            umask = os.umask(0)
            os.umask(umask)
            partial.chmod(0o777 & ~umask)  # mkdtemp's folders are private
            _put_in_place(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DatasetError(f"{out} cannot be written: {error.strerror or error}; nothing was kept.") from None


def check_target(out: Path, overwrite: bool) -> None:
    """Raise `DatasetError` where a data set's folder cannot be made: something else is there, or may not go."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / ANNOTATIONS).is_file():
        raise DatasetError(f"{out} is there already and is not a data set's folder: choose another --out.")
    if not overwrite:
        raise DatasetError(f"{out} is there already: choose another --out, or replace it with --overwrite.")


def bring_image(source: Path, target: Path, how: ImagesAs) -> bool:
    """Put an image file there; whether it was copied."""
    if how is ImagesAs.SYMBOLIC:
        target.symlink_to(source.resolve())
        return False
    if how is ImagesAs.LINKED:
        try:
            target.hardlink_to(source.resolve())
        except OSError:  # another file system, or one without links
            pass
        else:
            return False
    shutil.copyfile(source, target)
    return True


def _put_in_place(partial: Path, out: Path) -> None:
    if not out.exists():
        partial.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
    try:
        out.rename(old / "replaced")
        try:
            partial.rename(out)
        except OSError:
            (old / "replaced").rename(out)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
