"""Packs what a GPU machine without internet needs for a plan: pictures, weights, wheels. See docs/gpu.md.

``python gpu/pack.py gpu/call-1.toml gpu/call-2.toml --out pack``
"""

import argparse
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from parts import MIB, PartsError, sha256_of
from plan import Plan, read_plan
from slim import CHECKPOINT, slim

REPOSITORY = Path(__file__).resolve().parent.parent
MANIFEST = "pack.json"


class Room:
    """How many bytes may still be packed; what is too much is told before the rest is made.

    Parameters
    ----------
    limit
        Of the pack and the repository's files together.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._taken = limit, 0

    @property
    def taken(self) -> int:
        """Bytes so far."""
        return self._taken

    def take(self, size: int, what: str) -> None:
        """Note bytes that travel.

        Raises
        ------
        PartsError
            If they are too many.
        """
        self._taken += size
        if self._taken > self._limit:
            raise PartsError(
                f"the pack is too large: with {what} it has more than {self._limit / MIB:g} MiB; lower --quality or "
                "--longest, or take stages or --runs out"
            )


def pack_pictures(dataset: Path, out: Path, longest: int, quality: int, room: Room) -> int:
    """Write a data set's pictures as grey JPEGs no longer than ``longest``, its boxes with them; how many they are.

    The result is a data set of its own, with the same splits: other pixels, another fingerprint.
    """
    import cv2

    from mammoscope.datasets import load_dataset
    from mammoscope.datasets.dataset import split_hash

    content = json.loads((dataset / "annotations.json").read_text(encoding="utf-8"))
    (out / "images").mkdir(parents=True)
    scales = {}
    for image in content["images"]:
        pixels = cv2.imread(str(dataset / "images" / image["file_name"]), cv2.IMREAD_GRAYSCALE)
        if pixels is None:
            raise PartsError(f"{image['file_name']} of {dataset} is no picture: only pictures can be packed")
        scale = min(1.0, longest / max(pixels.shape))
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        scales[image["id"]] = (size[0] / pixels.shape[1], size[1] / pixels.shape[0])
        image["file_name"] = f"{Path(image['file_name']).with_suffix('')}.jpg".replace("/", "_")
        image["width"], image["height"] = size
        shrunk = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1, cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
        if not cv2.imwrite(str(out / "images" / image["file_name"]), shrunk, options):
            raise PartsError(f"{out} cannot be written: free disk space or choose another --out")
        room.take((out / "images" / image["file_name"]).stat().st_size, f"{len(scales)} pictures of {dataset.name}")
    for annotation in content["annotations"]:
        across, down = scales[annotation["image_id"]]
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x * across, y * down, width * across, height * down]
        annotation["area"] *= across * down
        annotation["segmentation"] = []
    (out / "annotations.json").write_text(json.dumps(content))
    packed = load_dataset(out)
    if (dataset / "splits.json").is_file():
        locked = json.loads((dataset / "splits.json").read_text())
        (out / "splits.json").write_text(json.dumps({**locked, "hash": split_hash(packed)}))
    return len(packed)


def pack_weights(backbone: str, out: Path) -> None:
    """Write the ImageNet weights of an EfficientNet-Lite as its detector's backbone needs them, in half precision."""
    import timm
    import torch

    from mammoscope.detectors.backbones import lite_imagenet_state
    from mammoscope.detectors.spec import Backbone

    used = timm.create_model(backbone, features_only=True, out_indices=(1, 2, 3, 4)).state_dict()
    state = {name: tensor for name, tensor in lite_imagenet_state(Backbone(backbone)).items() if name in used}
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    out.mkdir(parents=True, exist_ok=True)
    torch.save(halves, out / f"{backbone}.pth")


def pack_wheels(machine: dict[str, Any], out: Path) -> list[str]:
    """Download the wheels that the machine lacks; which they are."""
    missing = sorted(missing_distributions(machine))
    out.mkdir(parents=True, exist_ok=True)
    platforms = [word for platform in machine["platforms"] for word in ("--platform", platform)]
    for python in machine["python"] if missing else []:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--implementation", "cp", "--python-version", python, *platforms, "--dest", str(out), *missing]
        if subprocess.run(command, check=False).returncode:
            raise PartsError(f"the wheels for Python {python} could not be downloaded: see above")
    return missing


def missing_distributions(machine: dict[str, Any]) -> set[str]:
    """``NAME==VERSION``, as installed here, of all that mammoscope[train] needs and the machine has not."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    there = {_plain(name) for name in (*machine["installed"], *machine["left_out"])}
    found: set[str] = set()
    waiting = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    while waiting:
        name = _name_of(waiting.pop())
        if name == project["name"] or name in there or any(entry.startswith(f"{name}==") for entry in found):
            continue
        distribution = importlib.metadata.distribution(name)
        found.add(f"{name}=={distribution.version}")
        waiting += _needed_always(distribution.requires or [], machine["python"])
    return found


def _needed_always(requirements: Iterable[str], pythons: Iterable[str]) -> Iterator[str]:
    """Those without an extra that any of the machine's Pythons asks for."""
    environments = [{"python_version": python, "python_full_version": f"{python}.0", "extra": ""} for python in pythons]
    for text in requirements:
        requirement = Requirement(text)
        # Every other fact of a marker is this machine's: both are Linux on x86-64.
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
            yield requirement.name


def _name_of(requirement: str) -> str:
    return _plain(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pack_runs(runs: Iterable[Path], out: Path) -> None:
    """Carry runs that are to be gone on with: recipe, curves and the slim checkpoint."""
    for run in runs:
        if not (run / CHECKPOINT).is_file():
            raise PartsError(f"{run} has no checkpoint: give folders that gpu/join.py made")
        (out / run.name).mkdir(parents=True)
        slim(run, out / run.name / "slim.pt")
        for name in ("recipe.json", "pretrain.json", "curves.jsonl"):
            if (run / name).is_file():
                shutil.copy(run / name, out / run.name / name)


def needs_of(plan: Plan, data: Path) -> tuple[set[Path], set[str]]:
    """The data sets (below ``data``) and the backbones with packaged weights that a plan's recipes name."""
    datasets, backbones = set(), set()
    for stage in plan.stages:
        if stage.command == "probe":  # of drawn pictures, without weights
            continue
        recipe = tomllib.loads((REPOSITORY / stage.recipe).read_text(encoding="utf-8"))
        named = recipe["dataset"] if stage.command == "pretrain" else recipe["data"]["dataset"]
        for change in stage.changes:
            named = change.partition("=")[2] if change.startswith("data.dataset=") else named
        datasets.add(data / Path(named).name)
        backbone = recipe["backbone"] if stage.command == "pretrain" else recipe["detector"]["backbone"]
        if "efficientnet" in backbone and not recipe.get("start"):
            backbones.add(backbone)
    return datasets, backbones


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def tracked_bytes() -> int:
    """Bytes of the repository's files: they travel with the pack."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=False).stdout
    return sum((REPOSITORY / name).stat().st_size for name in listed.decode().split("\0") if name)


def make(arguments: argparse.Namespace) -> None:
    """Make the pack that the command line asks for."""
    out: Path = arguments.out
    if out.exists():
        raise PartsError(f"{out} is there already: delete it or choose another --out")
    plans = [read_plan(file) for file in arguments.plans]
    plan = Plan(tuple(stage for one in plans for stage in one.stages))
    room = Room(int(arguments.limit_mib * MIB))
    room.take(tracked_bytes(), "the repository's files alone")
    machine = tomllib.loads(arguments.machine.read_text())
    datasets, backbones = needs_of(plan, arguments.data)
    # The small and certain first: pictures take long, and are stopped as soon as they do not fit any more.
    for backbone in sorted(backbones):
        pack_weights(backbone, out / "weights")
    (out / "weights").mkdir(parents=True, exist_ok=True)
    room.take(size_of(out / "weights"), "the backbones' weights")
    pack_runs(arguments.runs, out / "runs")
    room.take(size_of(out / "runs") if arguments.runs else 0, "the runs to go on with")
    if not arguments.no_wheels:
        print("wheels:", ", ".join(pack_wheels(machine, out / "wheels")))
        room.take(size_of(out / "wheels"), "the wheels")
    for dataset in sorted(datasets):
        count = pack_pictures(dataset, out / "data" / dataset.name, arguments.longest, arguments.quality, room)
        print(f"{dataset.name}: {count} pictures, {size_of(out / 'data' / dataset.name) / MIB:.1f} MiB")
    listed = {str(path.relative_to(out)): sha256_of(path) for path in sorted(out.rglob("*")) if path.is_file()}
    (out / MANIFEST).write_text(json.dumps(listed, indent=1))
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        print(f"{folder.name}: {size_of(folder) / MIB:.1f} MiB")
    total = size_of(out) + tracked_bytes()
    room.take(total - room.taken, "its lists")
    print(f"with the repository's files {total / MIB:.1f} MiB of {arguments.limit_mib:g}")


def main() -> int:
    """0 if the pack was made, else 2."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plans", type=Path, nargs="+", metavar="plan")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder of the data sets (default: data)")
    parser.add_argument("--longest", type=int, default=832, help="longest side of a packed picture in pixels")
    parser.add_argument("--quality", type=int, default=60, help="of JPEG")
    parser.add_argument("--machine", type=Path, default=Path(__file__).with_name("machine.toml"))
    parser.add_argument("--no-wheels", action="store_true", help="everything needed is installed there")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="runs that came home, to be gone on with")
    parser.add_argument("--limit-mib", type=float, default=58.0, help="of the pack and the repository's files")
    arguments = parser.parse_args()
    try:
        make(arguments)
    except (PartsError, OSError, KeyError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
