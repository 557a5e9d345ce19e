"""Predictions of any program, from a file or from memory, as findings on the images of a data set.

In: COCO results, the JSON of Ultralytics, CSV, Parquet, tables and arrays of Python. Out: for each image of the data
set its candidates, as `Finding` in stored pixels, and what had to be said on the way (`Predictions`).
"""

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mammoscope.datasets import AnnotatedDataset, AnnotatedImage, DatasetError
from mammoscope.datasets.files import read_json
from mammoscope.evaluation.matching import EvaluationError
from mammoscope.findings import Box, Finding, Reading

LEFT_OUT = "-"
"""In place of a label: predictions of that class are left out."""

_IMAGE_KEYS = ("file_name", "filename", "file", "image", "image_name", "image_path", "path", "image_id", "img_id")
_SCORE_KEYS = ("score", "confidence", "conf", "probability")
_LABEL_KEYS = ("label", "category_name", "class_name", "category", "name", "class", "class_id", "category_id")
_CORNER_KEYS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIZE_KEYS = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
_CENTRE_KEYS = (("xcenter", "ycenter", "width", "height"), ("cx", "cy", "width", "height"), ("cx", "cy", "w", "h"))
_NAMED = 3


@dataclass(frozen=True, slots=True)
class PixelSpace:
    """The pixels that boxes are in, where these are not the mammogram's own.

    Parameters
    ----------
    rows, columns
        Size of the picture that the detector was shown; 1 and 1 for coordinates from 0 to 1.
    letterbox
        Whether the mammogram was scaled with its aspect kept and centred between bars, as Ultralytics does; otherwise
        it was stretched to the whole picture.
    """

    rows: float
    columns: float
    letterbox: bool = False

    def __post_init__(self) -> None:
        if not (self.rows > 0 and self.columns > 0):
            raise ValueError(f"a picture has rows and columns, not {self.rows} and {self.columns}")

    @classmethod
    def parse(cls, text: str, *, letterbox: bool = False) -> Self | None:
        """``original`` (``None``), ``relative`` (0 to 1), or ``ROWSxCOLUMNS``.

        Raises
        ------
        EvaluationError
            If it is none of these.
        """
        if text == "original" and not letterbox:
            return None
        if text == "relative" and not letterbox:
            return cls(1, 1)
        rows, cross, columns = text.lower().partition("x")
        if not (cross and rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
            said = "--letterbox goes with --pixels ROWSxCOLUMNS, for example 640x640" if letterbox else (
                f"--pixels is 'original', 'relative' (from 0 to 1) or ROWSxCOLUMNS, for example 800x800, not {text!r}"
            )  # fmt: skip
            raise EvaluationError(f"{said}.")
        return cls(int(rows), int(columns), letterbox)

    def to_mammogram(self, edges: Sequence[float], rows: int, columns: int) -> tuple[float, ...]:
        """(x0, y0, x1, y1) in pixels of a mammogram of that size."""
        x_scale, y_scale, left, top = columns / self.columns, rows / self.rows, 0.0, 0.0
        if self.letterbox:
            x_scale = y_scale = max(x_scale, y_scale)
            left, top = (self.columns - columns / x_scale) / 2, (self.rows - rows / y_scale) / 2
        x0, y0, x1, y1 = edges
        return (x0 - left) * x_scale, (y0 - top) * y_scale, (x1 - left) * x_scale, (y1 - top) * y_scale


@dataclass(frozen=True, slots=True)
class Predictions:
    """The candidates of each image of a data set, by image id.

    Parameters
    ----------
    by_image
        By falling score; images without predictions are left out.
    source
        What messages call them.
    elsewhere
        How many predictions are on images that the data set, or its split, does not hold.
    outside
        How many boxes have no area inside their image.
    unknown_labels
        Class names that the data set does not have, with how many predictions say each.
    """

    by_image: Mapping[int, tuple[Finding, ...]]
    source: str
    elsewhere: int = 0
    outside: int = 0
    unknown_labels: Mapping[str, int] = field(default_factory=dict)

    def candidates(self, image: AnnotatedImage) -> tuple[Finding, ...]:
        """An image's candidates; none where the file has none."""
        return self.by_image.get(image.id, ())

    def notes(self, data: AnnotatedDataset) -> list[str]:
        """What a reader of figures made of them has to know."""
        empty = sum(image.id not in self.by_image for image in data)
        found = []
        if empty:
            found.append(
                f"{empty} of {len(data)} images have no prediction in {self.source}: they count as images without "
                "findings."
            )
        if self.elsewhere:
            found.append(f"{self.elsewhere} predictions are on images that are not evaluated here and were left out.")
        if self.outside:
            found.append(f"{self.outside} boxes have no area inside their image and were left out.")
        if self.unknown_labels:
            named = ", ".join(f"{name} ({n})" for name, n in self.unknown_labels.items())
            found.append(f"Classes that the data set does not have count as findings like any other: {named}.")
        return found


def read_predictions(
    file: Path,
    data: AnnotatedDataset,
    *,
    pixels: PixelSpace | None = None,
    classes: Mapping[str, str] | None = None,
) -> Predictions:
    """The predictions in a file: COCO results or Ultralytics' JSON (.json), .csv or .parquet.

    Parameters
    ----------
    file
        Each entry or row names its image (by file name, or by the data set's image id), a box, a score and maybe a
        class. ``docs/evaluation.md`` lists the names of columns.
    data
        Whose images they are on.
    pixels
        The pixels that boxes are in; ``None`` for the mammograms' own.
    classes
        Label of the data set by the file's class (name or number); ``"-"`` leaves a class out.

    Raises
    ------
    EvaluationError
        If the file cannot be read as predictions, or none of them is on an image of the data set; the message names the
        entry.
    """
    return gather(_entries(Path(file)), data, source=Path(file).name, pixels=pixels, classes=classes)


def predictions_of(
    predictions: Any,
    data: AnnotatedDataset,
    *,
    pixels: PixelSpace | None = None,
    classes: Mapping[str, str] | None = None,
) -> Predictions:
    """Predictions from a file's path or from Python's own objects.

    Parameters
    ----------
    predictions
        A path as for `read_predictions`; a pandas or polars table, or a sequence of mappings, with the same columns; or
        a mapping from image (file name or image id) to a `Reading`, a sequence of `Finding`, supervision's
        ``Detections``, or an array of shape (n, 5) or (n, 6): x0, y0, x1, y1, score and maybe class. A sequence of
        `Reading` or of ``Detections`` as long as the data set is taken in its order.

    Raises
    ------
    EvaluationError
        As `read_predictions`.
    """
    if isinstance(predictions, Predictions):
        return predictions
    if isinstance(predictions, str | Path):
        return read_predictions(Path(predictions), data, pixels=pixels, classes=classes)
    return gather(_from_memory(predictions, data), data, source="the predictions", pixels=pixels, classes=classes)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One prediction as it was given: ``image`` is a file name or an id, ``edges`` x0, y0, x1, y1."""

    image: Any
    edges: tuple[float, float, float, float]
    score: float
    label: Any
    place: str
    by_name: bool = False


def gather(
    entries: Iterable[_Entry],
    data: AnnotatedDataset,
    *,
    source: str,
    pixels: PixelSpace | None,
    classes: Mapping[str, str] | None,
) -> Predictions:
    """Entries as findings on the data set's images."""
    listed = list(entries)
    if not listed:
        return Predictions({}, source)
    images, labels = _Images(data, listed), _Labels(data, classes or {}, listed)
    found: dict[int, list[Finding]] = {}
    elsewhere = outside = 0
    for entry in listed:
        image = images.of(entry)
        if image is None:
            elsewhere += 1
            continue
        if (label := labels.of(entry)) is None:
            continue
        if not (all(map(math.isfinite, (*entry.edges, entry.score))) and 0 <= entry.score <= 1):
            raise EvaluationError(
                f"{source}, {entry.place}: a prediction has four finite edges and a score from 0 to 1, not "
                f"{[*entry.edges]} and {entry.score}."
            )
        edges = pixels.to_mammogram(entry.edges, image.rows, image.columns) if pixels else entry.edges
        box = Box(*edges).clipped(image.rows, image.columns) if edges[0] < edges[2] and edges[1] < edges[3] else None
        if box is None:
            outside += 1
        else:
            found.setdefault(image.id, []).append(Finding(box, entry.score, label))
    if elsewhere == len(listed):
        raise EvaluationError(
            f"none of the {len(listed)} predictions in {source} is on an image of {data.name}: the first is on "
            f"{listed[0].image!r}, and the data set holds for example {data[0].name} (image id {data[0].id})."
        )
    ordered = {number: tuple(sorted(one, key=lambda f: -f.score)) for number, one in found.items()}
    return Predictions(ordered, source, elsewhere, outside, labels.unknown)


class _Images:
    """Which image an entry is on: by file name, by name without ending, by image id."""

    def __init__(self, data: AnnotatedDataset, entries: Sequence[_Entry]) -> None:
        self._by_id = {image.id: image for image in data}
        self._by_name: dict[str, AnnotatedImage | None] = {}
        for image in data:
            name = str(image.facts.get("file_name", image.name))
            for key in {name, image.path.name, image.path.stem}:
                self._by_name[key] = image if key not in self._by_name else None
        numbers = {int(e.image) for e in entries if not e.by_name and _is_whole(e.image)}
        stems = {int(image.path.stem): image for image in data if image.path.stem.isdecimal()}
        # Ultralytics makes a number of a file name that looks like one: taken so where more of the numbers fit.
        self._by_stem = stems if len(numbers & stems.keys()) > len(numbers & self._by_id.keys()) else None

    def of(self, entry: _Entry) -> AnnotatedImage | None:
        if not entry.by_name and _is_whole(entry.image):
            return (self._by_id if self._by_stem is None else self._by_stem).get(int(entry.image))
        name = str(entry.image).replace("\\", "/")
        for key in (name, name.rpartition("/")[2], name.rpartition("/")[2].rpartition(".")[0]):
            if key in self._by_name:
                if (image := self._by_name[key]) is None:
                    raise EvaluationError(
                        f"{entry.place}: {entry.image!r} is the name of several images of the data set: name them with "
                        "their folders, as the data set does."
                    )
                return image
        return None


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        return value.isdecimal()
    try:
        return bool(int(value) == value)
    except (TypeError, ValueError):
        return False


class _Labels:
    """The data set's label for the class that an entry names."""

    def __init__(self, data: AnnotatedDataset, classes: Mapping[str, str], entries: Sequence[_Entry]) -> None:
        self._data = data
        self._classes = {str(name): label for name, label in classes.items()}
        for label in self._classes.values():
            if label != LEFT_OUT and label not in data.labels:
                raise EvaluationError(f"{data.name} has no label {label!r}; it has {', '.join(data.labels)}.")
        self._by_name = {label.lower(): label for label in data.labels}
        self._by_id = {number: label for label, number in data.category_ids.items()}
        self._one_class = len({_plain(e.label) for e in entries}) == 1
        self._counted: Counter[str] = Counter()

    @property
    def unknown(self) -> dict[str, int]:
        return dict(self._counted)

    def of(self, entry: _Entry) -> str | None:
        """``None`` where the class is left out."""
        given = _plain(entry.label)
        if given in self._classes:
            label = self._classes[given]
            return None if label == LEFT_OUT else label
        only = next(iter(self._data.labels)) if len(self._data.labels) == 1 else None
        if given == "":
            return only or "Mass"
        if given.lower() in self._by_name:
            return self._by_name[given.lower()]
        if given.isdecimal():
            if only and self._one_class:
                return only
            if int(given) in self._by_id:
                return self._by_id[int(given)]
            there = ", ".join(f"{number} {label}" for number, label in self._by_id.items())
            raise EvaluationError(
                f"{entry.place}: the data set has no category {given} (it has {there}): say which it is with --class "
                f"{given}=LABEL, or leave it out with --class {given}=-."
            )
        self._counted[given] += 1
        return given


def _plain(label: Any) -> str:
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label).strip()


def _entries(file: Path) -> Iterator[_Entry]:
    ending = file.suffix.lower()
    if not file.is_file():
        raise EvaluationError(f"there is no file {file} with predictions.")
    if ending == ".json":
        return _from_json(file)
    if ending == ".csv":
        return _from_csv(file)
    if ending in {".parquet", ".pq"}:
        return _from_parquet(file)
    raise EvaluationError(f"{file} ends in neither .json, .csv nor .parquet, the files of predictions that are read.")


def _from_json(file: Path) -> Iterator[_Entry]:
    try:
        content = read_json(file)
    except DatasetError as error:
        raise EvaluationError(str(error)) from None
    if isinstance(content, Mapping) and "annotations" in content:  # a COCO document whose annotations have scores
        names = {c["id"]: c["name"] for c in content.get("categories", ()) if isinstance(c, Mapping)}
        files = {i["id"]: i["file_name"] for i in content.get("images", ()) if isinstance(i, Mapping)}
        content = [
            {**entry, "file_name": files.get(entry.get("image_id")), "label": names.get(entry.get("category_id"))}
            for entry in content["annotations"]
        ]
    elif isinstance(content, Mapping):  # by image: what Ultralytics' Results.summary() gives, or COCO entries
        content = [
            {**entry, "file_name": image}
            for image, entries in content.items()
            for entry in (entries if isinstance(entries, list) else [None])
            if isinstance(entry, Mapping)
        ]
    if not isinstance(content, list):
        raise EvaluationError(f"{file} is no list of predictions, as COCO's results format has it.")
    yield from _from_records(content, file.name, "entry", from_one=False)


def _from_csv(file: Path) -> Iterator[_Entry]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            sample = opened.readline()
            opened.seek(0)
            delimiter = max(",;\t", key=sample.count)
            yield from _from_records(csv.DictReader(opened, delimiter=delimiter), file.name, "line", from_one=True)
    except (OSError, UnicodeDecodeError, csv.Error):
        raise EvaluationError(f"{file} cannot be read as a CSV table in UTF-8.") from None


def _from_parquet(file: Path) -> Iterator[_Entry]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except (OSError, pyarrow.ArrowException):
        raise EvaluationError(f"{file} cannot be read as a Parquet file.") from None
    yield from _from_records(table.to_pylist(), file.name, "row", from_one=False)


def _from_records(records: Iterable[Any], source: str, word: str, *, from_one: bool) -> Iterator[_Entry]:
    for number, record in enumerate(records, start=2 if from_one else 1):
        place = f"{source}, {word} {number}"
        if not isinstance(record, Mapping):
            raise EvaluationError(f"{place}: it is no prediction with an image, a box and a score.")
        yield _entry({str(key).strip().lower(): value for key, value in record.items()}, place)


def _entry(record: Mapping[str, Any], place: str) -> _Entry:
    image_key = next((key for key in _IMAGE_KEYS if record.get(key) not in (None, "")), None)
    score = _first(record, _SCORE_KEYS)
    if image_key is None or score is None:
        lacking, known = ("an image", _IMAGE_KEYS) if image_key is None else ("a score", _SCORE_KEYS)
        raise EvaluationError(f"{place}: it names no {lacking.split()[1]} (by the name of {', '.join(known)}).")
    try:
        edges = _edges(record)
        return _Entry(
            record[image_key], edges, float(score), _first(record, _LABEL_KEYS), place, not image_key.endswith("id")
        )
    except (TypeError, ValueError):
        raise EvaluationError(
            f"{place}: its box or score is not made of numbers: a box is 'bbox' (x, y, width, height), x0, y0, x1, y1, "
            "or xmin, ymin, xmax, ymax."
        ) from None


def _first(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((record[key] for key in keys if record.get(key) not in (None, "")), None)


def _edges(record: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a record's box, whichever way it is given."""
    box = record.get("bbox", record.get("box"))
    if isinstance(box, Mapping):
        record, box = {str(key).lower(): value for key, value in box.items()}, None
    if box is not None:
        values = box.strip("[]() ").replace(";", ",").split(",") if isinstance(box, str) else box
        x, y, width, height = (float(value) for value in values)
        return x, y, x + width, y + height
    for keys in _CORNER_KEYS:
        if all(record.get(key) not in (None, "") for key in keys):
            x0, y0, x1, y1 = (float(record[key]) for key in keys)
            return x0, y0, x1, y1
    for keys in _SIZE_KEYS:
        if all(record.get(key) not in (None, "") for key in keys):
            x, y, width, height = (float(record[key]) for key in keys)
            return x, y, x + width, y + height
    for keys in _CENTRE_KEYS:
        if all(record.get(key) not in (None, "") for key in keys):
            x, y, width, height = (float(record[key]) for key in keys)
            return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    raise ValueError("no box")


def _from_memory(predictions: Any, data: AnnotatedDataset) -> Iterator[_Entry]:
    if hasattr(predictions, "to_dicts"):  # polars
        yield from _from_records(predictions.to_dicts(), "the table", "row", from_one=False)
    elif hasattr(predictions, "to_dict") and hasattr(predictions, "columns"):  # pandas
        yield from _from_records(predictions.to_dict("records"), "the table", "row", from_one=False)
    elif isinstance(predictions, Mapping):
        for image, found in predictions.items():
            yield from _on_image(image, found)
    elif isinstance(predictions, Sequence) and all(isinstance(one, Mapping) for one in predictions):
        yield from _from_records(predictions, "the predictions", "entry", from_one=False)
    elif isinstance(predictions, Sequence) and len(predictions) == len(data):
        for image, found in zip(data, predictions, strict=True):
            yield from _on_image(image.id, found)
    else:
        raise EvaluationError(
            "predictions are a file, a table, a list of COCO results, a mapping from image to boxes, or one entry for "
            f"each of the {len(data)} images; not {type(predictions).__name__}"
            f"{f' of {len(predictions)}' if isinstance(predictions, Sequence) else ''}."
        )


def _on_image(image: Any, found: Any) -> Iterator[_Entry]:
    """Entries of one image: a reading, findings, supervision's Detections, or an array of numbers."""
    place = f"image {image}"
    by_name = isinstance(image, str) and not image.isdecimal()
    rows: Iterable[tuple[Any, Any, Any]]
    if isinstance(found, Reading):
        found = found.findings
    if hasattr(found, "xyxy") and hasattr(found, "confidence"):  # supervision.Detections
        if found.confidence is None and len(found.xyxy):
            raise EvaluationError(f"{place}: its detections have no confidence, and an evaluation needs scores.")
        scores = found.confidence if found.confidence is not None else ()
        names = getattr(found, "data", None) or {}
        labels = names.get("class_name", found.class_id)
        labels = [None] * len(found.xyxy) if labels is None else labels
        rows = zip(found.xyxy, scores, labels, strict=True)
    elif isinstance(found, Sequence) and all(isinstance(one, Finding) for one in found):
        rows = [(one.box.as_tuple(), one.score, one.label) for one in found]
    else:
        rows = ((one[:4], one[4], one[5] if len(one) > 5 else None) for one in found)
    try:
        for edges, score, label in rows:
            x0, y0, x1, y1 = (float(edge) for edge in edges)
            named = label if label is None or isinstance(label, str) else float(label)
            yield _Entry(image, (x0, y0, x1, y1), float(score), named, place, by_name)
    except (TypeError, ValueError, IndexError):
        raise EvaluationError(
            f"{place}: its predictions are not of shape (n, 5) or (n, 6): x0, y0, x1, y1, score and maybe class."
        ) from None
