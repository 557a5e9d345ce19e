"""YOLO: a text file per image, a line per box, everything as a share of the image.

https://docs.ultralytics.com/datasets/detect/: ``class x_center y_center width height``;
https://docs.ultralytics.com/datasets/segment/: ``class x1 y1 x2 y2 x3 y3 ...``.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_unpacked
from mammoscope.datasets.formats.base import ImageFolder, LabelledFile, ReadOptions, outlined, rectangle, subset_of
from mammoscope.datasets.formats.parsing import number, read_json_text, read_text
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, Silence, account
from mammoscope.untrusted_yaml import read_yaml

_NAMES = ("classes.txt", "obj.names")
_OVER_THE_EDGE = 0.01  # programs round; more than a hundredth of the image beyond its edge is another unit
_ROW = re.compile(r"\s*\d+(\.0*)?(\s+\S+){4,}\s*")
"""How a line of labels looks: a number, and four or more words after it."""


def read_yolo(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read the text files below a folder; names of classes come from ``data.yaml``, ``classes.txt`` or the options.

    ``source`` is the root of an export (Ultralytics, Roboflow, CVAT), the folder of its text files, or its
    ``data.yaml``. A text file of labels belongs to a picture of its name, or has lines of numbers; lists of images and
    other texts are left aside and told. A picture whose file is empty has no lesion; one without a file is unannotated:
    nobody said so.
    """
    check_unpacked(source)
    folder = source.parent if source.is_file() else source
    if not folder.is_dir():
        raise DatasetError(f"{source} does not exist.")
    below = folder / "labels" if (folder / "labels").is_dir() else folder
    described = _description(source)
    classes = options.classes or _classes(source)
    of_image, others = _pairs(images, below)
    lists = _lists(images, folder)
    if strangers := [path for path in others if path not in {place for place, _ in lists.values()}]:
        options.notes.append(f"{len(strangers)} text files are no labels and were left aside: {_few(strangers)}.")
    if undone := _of_label_studio(folder):
        options.notes.append(
            "Label Studio writes an empty file also for a task that nobody did: pictures with one are unannotated. Its "
            "JSON export knows which were done."
        )
    silent = Silence.NEGATIVE if options.silence is Silence.NEGATIVE else Silence.UNANNOTATED
    without = 0
    for image in images.pictures:
        text = of_image.get(image)
        where = str(image if text is None else text)
        rows, columns = images.size(image, where)
        marks = ImageMarks((), silent) if text is None else account(
            _lines(text),
            partial(_box, rows=rows, columns=columns, classes=classes, points=described.get("kpt_shape")),
            options.silence_or(Silence.UNANNOTATED if undone else Silence.NEGATIVE),
        )  # fmt: skip
        without += text is None
        listed = lists.get(image)
        beside = None if text is None else subset_of(text.relative_to(folder).with_suffix("").parts)
        subset = listed[1] if listed else beside
        yield LabelledFile(image, where, marks, rows, columns, subset=subset)
    if without and silent is Silence.UNANNOTATED:
        options.notes.append(
            f"{without} pictures have no text file, so nobody said that they show no lesion: they are unannotated. "
            "Ultralytics trains on such pictures as on images without objects; --unmarked negative takes them for that."
        )


def _pairs(images: ImageFolder, folder: Path) -> tuple[dict[Path, Path], list[Path]]:
    """The text file of each image, and the text files that are no labels."""
    pairs: dict[Path, Path] = {}
    others: list[Path] = []
    for text in (path for path in sorted(folder.rglob("*.txt")) if path.name not in _NAMES):
        # labels lie in a folder of that name beside the images
        parts = ["images" if part == "labels" else part for part in text.relative_to(folder).with_suffix("").parts]
        try:
            image = images.find(["/".join(parts)], str(text))
        except DatasetError:
            if _is_labels(text):
                raise
            others.append(text)
            continue
        if image in pairs:
            raise DatasetError(f"{pairs[image]} and {text} both belong to {image}.")
        pairs[image] = text
    if not pairs:
        raise DatasetError(f"{folder} holds no text files with boxes.")
    return pairs, others


def _is_labels(path: Path) -> bool:
    """Whether a text file without a picture must be labels, so that their picture is missing."""
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    return bool(lines) and all(_ROW.fullmatch(line) for line in lines)


def _lists(images: ImageFolder, folder: Path) -> dict[Path, tuple[Path, str]]:
    """The part (train, val, test) of each image that a list such as ``train.txt`` names, and that list."""
    found: dict[Path, tuple[Path, str]] = {}
    for path in sorted(folder.glob("*.txt")):
        subset = subset_of((path.stem, ""))
        for line in read_text(path).splitlines() if subset else ():
            try:
                found.setdefault(images.find([line.strip()], str(path)), (path, subset or ""))
            except DatasetError:  # of a picture that did not come along
                continue
    return found


def _of_label_studio(folder: Path) -> bool:
    """Whether the notes that Label Studio puts beside its labels are there."""
    notes = folder / "notes.json"
    if not notes.is_file():
        return False
    content = read_json_text(notes, read_text(notes))
    info = content.get("info") if isinstance(content, dict) else None
    return isinstance(info, dict) and info.get("contributor") == "Label Studio"


def _few(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + (", …" if len(paths) > 3 else "")


def _description(source: Path) -> dict[str, Any]:
    """What ``data.yaml`` says, as far as it is needed beside the names."""
    for path in _described_by(source):
        try:
            content = _yaml(path)
        except DatasetError:  # of something else, if the names are given
            continue
        if isinstance(content, dict) and "names" in content:
            return content
    return {}


def _places(source: Path) -> list[Path]:
    """Where the description of a set may lie: at its root, which is up to two folders above its labels."""
    folder = (source.parent if source.is_file() else source).absolute()
    return [place for place in (folder, folder.parent, folder.parent.parent) if place.is_dir()]


def _described_by(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    here, *above = _places(source)
    near = [path for place in (here, *above[:1]) for path in sorted(place.glob("*.y*ml"))]
    return [*near, *(path for place in above[1:] for path in sorted(place.glob("data.y*ml")))]


def _classes(source: Path) -> tuple[str, ...]:
    described = _described_by(source)
    for place in _places(source):
        for path in described if source.is_file() else [path for path in described if path.parent == place]:
            if names := _names_in_yaml(path):
                return names
        for path in (place / name for name in _NAMES):
            if path.is_file():
                return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    raise DatasetError(
        f"{source}: the names of the classes are not known: put a data.yaml or classes.txt there, or give --classes."
    )


def _names_in_yaml(path: Path) -> tuple[str, ...]:
    content = _yaml(path)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise DatasetError(f"{path}: its names are not numbered 0, 1, 2, ...")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list):
        return ()
    try:
        if all(isinstance(name, str | int | float) for name in names):
            return tuple(map(str, names))
    except ValueError:  # a number of thousands of digits
        pass
    raise DatasetError(f"{path}: its names are not texts, one for each class.")


def _yaml(path: Path) -> Any:
    try:
        return read_yaml(read_text(path))
    except (yaml.YAMLError, RecursionError, ValueError):
        raise DatasetError(f"{path} is not valid YAML of plain values, or its aliases repeat too many.") from None


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if text.strip():
            yield f"{path}, line {line}", text


def _box(where: str, text: str, rows: int, columns: int, classes: tuple[str, ...], points: object) -> ImportedBox:
    first, *rest = text.split()
    label = _label(where, first, classes)
    if isinstance(points, list):  # of a pose, whose points come after the box
        rest = rest[:4]
    values = [number(where, "a value", value) for value in rest]
    if any(not -_OVER_THE_EDGE <= value <= 1 + _OVER_THE_EDGE for value in values):
        raise DatasetError(f"{where}: YOLO's values are shares of the image, from 0 to 1; these are not.")
    if len(values) == 4:
        x, y, width, height = values
        edges = ((x - width / 2) * columns, (y - height / 2) * rows,
                 (x + width / 2) * columns, (y + height / 2) * rows)  # fmt: skip
        return rectangle(edges, label)
    if len(values) >= 6 and len(values) % 2 == 0:
        corners = [(x * columns, y * rows) for x, y in zip(values[::2], values[1::2], strict=True)]
        return outlined(corners, label)
    raise DatasetError(f"{where}: {len(values) + 1} values; a line is a class with centre and size, or with corners.")


def _label(where: str, text: str, classes: tuple[str, ...]) -> str:
    number_of_class = number(where, "the class", text)
    if number_of_class != int(number_of_class) or not 0 <= number_of_class < len(classes):
        raise DatasetError(f"{where}: there is no class {text}; the classes are 0 to {len(classes) - 1}.")
    return classes[int(number_of_class)]
