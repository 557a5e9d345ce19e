"""YOLO: a text file per image, a line per box, everything as a share of the image.

https://docs.ultralytics.com/datasets/detect/: ``class x_center y_center width height``;
https://docs.ultralytics.com/datasets/segment/: ``class x1 y1 x2 y2 x3 y3 ...``.
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import check_unpacked
from mammoscope.datasets.formats.base import ImageFolder, LabelledFile, ReadOptions, outlined, rectangle
from mammoscope.datasets.formats.parsing import number, read_text
from mammoscope.datasets.records import ImportedBox
from mammoscope.untrusted_yaml import read_yaml

_NAMES = ("classes.txt", "obj.names")
_OVER_THE_EDGE = 0.01  # programs round; more than a hundredth of the image beyond its edge is another unit


def read_yolo(source: Path, images: ImageFolder, options: ReadOptions) -> Iterator[LabelledFile]:
    """Read a folder of text files; names of classes come from ``data.yaml``, ``classes.txt`` or the options.

    Every picture is one of the data set: those without a text file have no boxes, as YOLO trains on them. ``source``
    is the folder of text files, one that holds it, or the ``data.yaml`` in it.
    """
    check_unpacked(source)
    folder = source.parent if source.is_file() else source
    if not folder.is_dir():
        raise DatasetError(f"{source} does not exist.")
    folder = folder / "labels" if (folder / "labels").is_dir() else folder
    classes = options.classes or _classes(source)
    texts = {
        path: path.relative_to(folder).with_suffix("").parts
        for path in sorted(folder.rglob("*.txt"))
        if path.name not in _NAMES
    }
    of_image = _pairs(images, texts, folder)
    for image in images.pictures:
        text = of_image.get(image)
        where = str(image if text is None else text)
        rows, columns = images.size(image, where)
        boxes = () if text is None else tuple(_boxes(text, rows, columns, classes))
        yield LabelledFile(image, where, boxes, rows, columns)


def _pairs(images: ImageFolder, texts: dict[Path, tuple[str, ...]], folder: Path) -> dict[Path, Path]:
    if not texts:
        raise DatasetError(f"{folder} holds no text files with boxes.")
    pairs: dict[Path, Path] = {}
    for text, parts in texts.items():
        image = images.find(["/".join(parts)], str(text))
        if image in pairs:
            raise DatasetError(f"{pairs[image]} and {text} both belong to {image}.")
        pairs[image] = text
    return pairs


def _classes(source: Path) -> tuple[str, ...]:
    folder = source.parent if source.is_file() else source
    places = [place for place in (folder, folder.parent) if place.is_dir()]
    for place in places:
        described = [source] if source.is_file() else sorted(place.glob("*.y*ml"))
        for path in described:
            if names := _names_in_yaml(path):
                return names
        for path in (place / name for name in _NAMES):
            if path.is_file():
                return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    raise DatasetError(
        f"{source}: the names of the classes are not known: put a data.yaml or classes.txt there, or give --classes."
    )


def _names_in_yaml(path: Path) -> tuple[str, ...]:
    try:
        content = read_yaml(read_text(path))
    except (yaml.YAMLError, RecursionError, ValueError):
        raise DatasetError(f"{path} is not valid YAML of plain values, or its aliases repeat too many.") from None
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


def _boxes(path: Path, rows: int, columns: int, classes: tuple[str, ...]) -> Iterator[ImportedBox]:
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        where = f"{path}, line {line}"
        first, *rest = text.split()
        values = [number(where, "a value", value) for value in rest]
        label = _label(where, first, classes)
        if any(not -_OVER_THE_EDGE <= value <= 1 + _OVER_THE_EDGE for value in values):
            raise DatasetError(f"{where}: YOLO's values are shares of the image, from 0 to 1; these are not.")
        if len(values) == 4:
            x, y, width, height = values
            edges = ((x - width / 2) * columns, (y - height / 2) * rows,
                     (x + width / 2) * columns, (y + height / 2) * rows)  # fmt: skip
            yield rectangle(where, edges, label)
        elif len(values) >= 6 and len(values) % 2 == 0:
            corners = [(x * columns, y * rows) for x, y in zip(values[::2], values[1::2], strict=True)]
            yield outlined(where, corners, label)
        else:
            raise DatasetError(
                f"{where}: {len(values) + 1} values; a line is a class with centre and size, or with corners."
            )


def _label(where: str, text: str, classes: tuple[str, ...]) -> str:
    number_of_class = number(where, "the class", text)
    if number_of_class != int(number_of_class) or not 0 <= number_of_class < len(classes):
        raise DatasetError(f"{where}: there is no class {text}; the classes are 0 to {len(classes) - 1}.")
    return classes[int(number_of_class)]
