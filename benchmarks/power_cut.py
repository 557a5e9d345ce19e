"""Power cuts: the node's storage on a file system whose unsynced writes are gone, again and again.

    sudo python benchmarks/power_cut.py [--cuts 24] [--objects 240] [--seed 1] [--without-sync PART]

The soak of `soak.py`, with a power cut in place of each kill. The storage folder lies on ext4 on a loop device, whose
image lies on XFS. At a cut the node is stopped with all its children, the image is cloned (FICLONE, at one instant),
and only then the node is killed. The clone holds what the device had been given, and nothing that was still in the page
cache of ext4: writes that nobody synced. It is mounted, its journal replayed, and the node starts on it.

ext4 is kept from saving by itself what it was not asked to: it commits its journal every ten minutes instead of every
five seconds, and does not write a file out because it replaces another (``commit=600,noauto_da_alloc``).

``--without-sync inbox`` makes each fsync below a path with that part do nothing: what the same run says then is what it
would say of a missing sync. Needs root, loop devices, mkfs.ext4, mkfs.xfs (Debian's xfsprogs) and ``cc``.
"""

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from node_under_test import NodeProcess
from rich.console import Console
from soak import Plan, Soak, judge, table

FICLONE = 0x40049409
"""Of linux/fs.h."""
DISK_BYTES, CARRIER_BYTES = 1 << 31, 16 << 30
MOST_OBJECTS = 800
"""The results of a study of four take some 8 MB of the disk, and a full one is another matter."""
EXT4_OPTIONS = "loop,commit=600,noauto_da_alloc,errors=remount-ro"
WITHOUT_SYNC = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int left_out(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, getenv("WITHOUT_SYNC")) != NULL;
}

int fsync(int descriptor) {
    return left_out(descriptor) ? 0 : ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(descriptor);
}

int fdatasync(int descriptor) {
    return left_out(descriptor) ? 0 : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(descriptor);
}
"""


class Disk:
    """A file system that can lose its power.

    Parameters
    ----------
    folder
        For the images and where they are mounted.
    """

    def __init__(self, folder: Path) -> None:
        self._carrier, self.mounted = folder / "carrier", folder / "disk"
        self._file = folder / "carrier.img"
        self._number = 0

    def __enter__(self) -> "Disk":
        self._carrier.mkdir()
        self.mounted.mkdir()
        _make(self._file, CARRIER_BYTES, "mkfs.xfs", "-q", "-m", "reflink=1")
        _run("mount", "-o", "loop", self._file, self._carrier)
        _make(self._image, DISK_BYTES, "mkfs.ext4", "-q")
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        self._unmount(self.mounted)
        self._unmount(self._carrier)

    @property
    def _image(self) -> Path:
        return self._carrier / f"{self._number}.img"

    def cut(self) -> None:
        """Keep what the device has now, for the next `mount`."""
        before = self._image
        self._number += 1
        with before.open("rb") as source, self._image.open("wb") as target:
            fcntl.ioctl(target.fileno(), FICLONE, source.fileno())

    def mount(self) -> None:
        """Mount what there was at the last cut."""
        if os.path.ismount(self.mounted):
            self._unmount(self.mounted)
            (self._carrier / f"{self._number - 1}.img").unlink()
        _run("mount", "-o", EXT4_OPTIONS, self._image, self.mounted)

    def _unmount(self, folder: Path) -> None:
        for _ in range(50):
            if subprocess.run(["umount", folder], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return
            time.sleep(0.2)  # a child that was killed is still going
        _run("umount", "-l", folder)


class PoweredNode(NodeProcess):
    """A node on such a disk: being killed is losing power, and starting is mounting what is left."""

    def __init__(
        self, folder: Path, sections: Mapping[str, Any], *, disk: Disk, environment: Mapping[str, str], **options: Any
    ) -> None:
        node = {**sections["node"], "storage": str(disk.mounted / "storage"), "free_gigabytes": 0.01}
        super().__init__(folder, {**sections, "node": node}, environment=environment, **options)
        self._disk = disk
        self._has_power = True

    def start(self) -> None:
        if not self._has_power:
            self._disk.mount()
            self._has_power = True
        super().start()

    def kill(self) -> None:
        if self.alive:
            os.killpg(self.pid, signal.SIGSTOP)
            self._disk.cut()
            self._has_power = False
        super().kill()


def _make(file: Path, size: int, *program: str) -> None:
    with file.open("wb") as image:
        image.truncate(size)
    _run(*program, file)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def without_sync(part: str, folder: Path) -> dict[str, str]:
    """The environment in which a process syncs nothing whose path has that part."""
    source, library = folder / "without_sync.c", folder / "without_sync.so"
    source.write_text(WITHOUT_SYNC, encoding="ascii")
    _run("cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl")
    return {"LD_PRELOAD": str(library), "WITHOUT_SYNC": part}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=240)
    parser.add_argument("--cuts", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="keep images, settings and log here")
    parser.add_argument("--without-sync", metavar="PART", default=None, help="to see what a missing sync would do")
    arguments = parser.parse_args()
    if arguments.objects > MOST_OBJECTS:
        parser.error(f"the disk takes the results of {MOST_OBJECTS} objects at most")
    plan = Plan(arguments.objects, arguments.cuts, arguments.seed, seconds_between_kills=12.0)
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other, Disk(Path(other)) as disk:
        part = arguments.without_sync
        environment = without_sync(part, Path(other)) if part is not None else {}
        make_node = partial(PoweredNode, disk=disk, environment=environment)
        story = Soak(plan, arguments.folder or Path(name), make_node=make_node).run()
    verdict = judge(story)
    rows = table(plan, story, verdict)
    rows.title = f"Power cuts, seed {plan.seed}" + (f", without sync of {part}" if part is not None else "")
    Console(width=120).print(rows)
    for what in ("lost", "unanswered", "twice", "out_of_place"):
        for line in getattr(verdict, what)[:20]:
            print(f"{what}: {line}")
    return 0 if verdict.all_well and not any(story.exit_codes) else 1


if __name__ == "__main__":
    sys.exit(main())
