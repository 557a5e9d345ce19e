"""mini-MIAS: PGM files of 1024 x 1024 pixels and one text of centres and radii.

The origin of the coordinates is the bottom left corner. Films come in pairs of one patient: an even number is the left
breast, the odd one before it the right. All are MLO views at 0.2 mm.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from mammoscope.datasets.collections.base import ASYMMETRY, CALCIFICATION, DISTORTION, MASS, Collected, pathology_of
from mammoscope.datasets.collections.scan import Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Source
from mammoscope.datasets.collections.tables import Row, text_of
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, LeftMark, Silence
from mammoscope.datasets.records import ImportedImage
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

SPACING_MM = 0.2
_LINE = re.compile(r"\s*(?P<image>mdb(?P<number>\d{3}))[a-z]*\s+(?P<tissue>[FGD])\s+(?P<class>[A-Z]{4})\b(?P<rest>.*)")
_PLACED = re.compile(r"\s*(?P<severity>[BM])\s+(?P<x>\S+)\s+(?P<y>\S+)\s+(?P<radius>\S+)\s*")
_UNPLACED = re.compile(r"\s*(?P<severity>[BM])\s*(?:\*.*)?")  # '*NOTE 3*': spread over the whole breast
NORMAL = "NORM"
LABELS = {
    "CALC": CALCIFICATION,
    "CIRC": MASS,
    "SPIC": MASS,
    "MISC": MASS,
    "ARCH": DISTORTION,
    "ASYM": ASYMMETRY,
}
MARGINS = {"CIRC": "circumscribed", "SPIC": "spiculated", "MISC": "ill-defined"}


@dataclass(frozen=True, slots=True)
class _Entry:
    row: Row
    image: str
    number: int
    tissue: str
    kind: str
    circle: tuple[float, float, float] | None
    severity: str


def _recognise(inventory: Inventory) -> bool:
    return _text(inventory) is not None


def _text(inventory: Inventory) -> Path | None:
    """The text with the centres, by its lines: it is called Info.txt or without a suffix."""
    for path in inventory.files:
        if path.suffix.lower() in (".txt", "") and path.stat().st_size < 1 << 20:
            lines = path.read_bytes().decode("ascii", "replace").splitlines()
            if sum(bool(_LINE.match(line)) for line in lines) > 1:
                return path
    return None


def _read(source: Source) -> Collected:
    path = _text(source.inventory)
    if path is None:
        raise DatasetError(
            f"{source.inventory.folder} holds no text of mini-MIAS (lines such as 'mdb001 G CIRC B 535 425 197'): put "
            "Info.txt there as its owner distributes it."
        )
    by_image: dict[str, list[_Entry]] = {}
    for line, text in enumerate(text_of(path, path.read_bytes()).splitlines(), 1):
        if entry := _entry(Row(path, line, {}), text):
            by_image.setdefault(entry.image, []).append(entry)
    files = source.inventory.by_stem(source.inventory.pictures)
    missing = Missing(source, named=len(by_image))
    images = []
    for name, entries in by_image.items():
        if name not in files:
            missing.add(entries[0].row, f"{name}.pgm")
        else:
            images.append(_image(files[name], source.size(files[name]), entries))
    return Collected(tuple(images), missing.settle())


def _entry(row: Row, text: str) -> _Entry | None:
    """The entry of a line; ``None`` where it is no entry but words."""
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    common = row, match["image"], int(match["number"]), match["tissue"], match["class"]
    rest = match["rest"]
    if match["class"] == NORMAL:
        return _Entry(*common, None, "")
    if match["class"] not in LABELS:
        raise row.error(f"the class {match['class']!r} is none of {', '.join(LABELS)}, {NORMAL}")
    if placed := _PLACED.fullmatch(rest):
        numbers = Row(row.path, row.line, placed.groupdict())
        if (radius := numbers.number("radius")) <= 0:
            raise row.error(f"the radius {radius:g} is not positive")
        return _Entry(*common, (numbers.number("x"), numbers.number("y"), radius), placed["severity"])
    if unplaced := _UNPLACED.fullmatch(rest):
        return _Entry(*common, None, unplaced["severity"])
    raise row.error("after the class come B or M, x, y and a radius")


def _image(path: Path, size: tuple[int, int], entries: list[_Entry]) -> ImportedImage:
    first = entries[0]
    placed = {id(entry): box for entry in entries if entry.circle and (box := _box(entry, *size)) is not None}
    severities = {entry.severity for entry in entries} - {""}
    return ImportedImage(
        path=path,
        rows=size[0],
        columns=size[1],
        patient=f"{(first.number + 1) // 2:03d}",
        laterality=Laterality.RIGHT if first.number % 2 else Laterality.LEFT,
        view=View.MLO,
        scanner="film",
        spacing_mm=SPACING_MM,
        pathology=pathology_of(max(severities)) if severities else "normal",  # M comes after B
        marks=ImageMarks(
            tuple(placed.values()),
            Silence.NEGATIVE,  # its line says NORM
            not_outlined=tuple(
                LeftMark(
                    _UNPLACED_LESION if entry.circle is None else OUTSIDE, f"{entry.row.path.name}:{entry.row.line}"
                )
                for entry in entries
                if entry.kind != NORMAL and id(entry) not in placed
            ),
        ),
        attributes={"tissue": {"F": "fatty", "G": "fatty-glandular", "D": "dense-glandular"}[first.tissue]},
        origin={"rows": [f"{entry.row.path.name}:{entry.row.line}" for entry in entries]},
    )


_UNPLACED_LESION = "a lesion without a place"
OUTSIDE = "a lesion outside its image"


def _box(entry: _Entry, rows: int, columns: int) -> ImportedBox | None:
    """The box around a circle; none where it lies outside the image."""
    assert entry.circle
    x, from_below, radius = entry.circle
    y = rows - from_below
    box = Box(x - radius, y - radius, x + radius, y + radius)
    if box.clipped(rows, columns) is None:
        return None
    attributes = {"class": entry.kind, "pathology": pathology_of(entry.severity)}
    if entry.kind in MARGINS:
        attributes["margins"] = MARGINS[entry.kind]
    return ImportedBox(box, LABELS[entry.kind], attributes)


MINI_MIAS = Collection(
    key="mini-mias",
    title="mini-MIAS",
    licence="MIAS licence agreement, for research",
    citation=(
        "J. Suckling et al.: The Mammographic Image Analysis Society digital mammogram database. Excerpta Medica, "
        "International Congress Series 1069:375-378, 1994."
    ),
    url="http://peipa.essex.ac.uk/info/mias.html",
    labels=(MASS, CALCIFICATION, ASYMMETRY, DISTORTION),
    recognise=_recognise,
    read=_read,
    names=r"(?<![A-Za-z0-9])mdb\d{3}",
)
