"""The card of a data set's folder: what is in it, whose it is, and under which terms."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from mammoscope import __version__
from mammoscope.datasets import DatasetError, open_index
from mammoscope.datasets.collections import originals
from mammoscope.datasets.dataset import ANNOTATIONS, SPLITS
from mammoscope.datasets.files import read_json
from mammoscope.evaluation.data_summary import DataCard, counts_in_words, size_histogram, spread_in_words
from mammoscope.evaluation.reports.charts import SIDE, size_chart

if TYPE_CHECKING:
    import pyarrow

_COUNTED = ("split", "fold", "laterality", "view", "density", "pathology", "scanner", "review")
_COLUMNS = [
    *_COUNTED,
    "file_name",
    "patient",
    "study",
    "rows",
    "columns",
    "spacing_mm",
    "n_boxes",
    "labels",
    "box_sides",
]
_MOST_VALUES = 20
_BAR = 40  # characters


def dataset_card(folder: Path) -> DataCard:
    """The card of a data set's folder.

    Raises
    ------
    DatasetError
        If it is not a data set's folder or cannot be read.
    """
    folder = Path(folder)
    table = open_index(folder, _COLUMNS).table
    values = {name: table.column(name).to_pylist() for name in _COLUMNS}
    info = _info(folder)
    n_images = table.num_rows
    per_patient = Counter(values["patient"])
    labels = Counter(label for labels in values["labels"] for label in labels)
    stated = [name for name in _COUNTED if any(value is not None for value in values[name])]
    facts = [
        ("data set", str(info.get("description") or folder.resolve().name)),
        ("licence", str(info.get("licence") or info.get("license") or "not stated")),
        *_originals(info, table.column("file_name").to_pylist()),
        ("citation", str(info.get("citation") or info.get("source") or info.get("url") or "not stated")),
        ("images", str(n_images)),
        ("patients", f"{len(per_patient)}, with {spread_in_words(list(per_patient.values()))} images each"),
        ("images by boxes", counts_in_words(Counter(values["n_boxes"]))),
        ("boxes by label", counts_in_words(labels) or "none"),
        ("image size", f"{spread_in_words(values['rows'])} rows, {spread_in_words(values['columns'])} columns"),
        ("pixel spacing in mm", _spacings(values["spacing_mm"])),
        *((f"images by {name}", _counted(values[name])) for name in stated),
        *_patients_by_split(table),
        ("splits locked with", _lock(folder)),
    ]
    sizes = np.array([side for sides in values["box_sides"] for side in sides], np.float64)
    return DataCard(tuple(facts), *size_histogram(sizes))


def card_markdown(card: DataCard) -> str:
    """The card as Markdown."""
    lines = [f"# {_escaped(card.facts[0][1])}", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {_escaped(said)} |" for name, said in card.facts[1:]]
    if card.size_counts.any():
        lines += ["", "Sizes of the boxes, as the root of their share of the image:", "", "```"]
        most = int(card.size_counts.max())
        for low, high, count in zip(card.size_edges[:-1], card.size_edges[1:], card.size_counts, strict=True):
            bar = "#" * round(_BAR * int(count) / most)
            lines.append(f"{low:5.1f} to {high:4.1f} %  {int(count):7d}  {bar}".rstrip())
        lines.append("```")
    return "\n".join([*lines, "", f"Written by mammoscope {__version__}. It holds no image and no patient's name.", ""])


def card_html(card: DataCard) -> str:
    """The card as one HTML document with everything in it."""
    environment = Environment(
        loader=PackageLoader("mammoscope.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("dataset_card.html").render(
        name=card.facts[0][1],
        facts=card.facts[1:],
        sizes=size_chart(card.size_edges, card.size_counts) if card.size_counts.any() else None,
        side=SIDE,
        version=__version__,
    )


def _info(folder: Path) -> Mapping[str, Any]:
    content = read_json(folder / ANNOTATIONS)
    info = content.get("info") if isinstance(content, dict) else None
    stated = dict(info) if isinstance(info, dict) else {}
    licences = content.get("licenses") if isinstance(content, dict) else None
    if isinstance(licences, list) and licences and isinstance(licences[0], dict):
        stated.setdefault("licence", licences[0].get("name") or licences[0].get("url"))
    return stated


def _counted(values: Sequence[Any]) -> str:
    counts = Counter("unknown" if value is None else str(value) for value in values)
    if len(counts) <= _MOST_VALUES:
        return counts_in_words(counts)
    often = dict(counts.most_common(_MOST_VALUES))
    return f"{counts_in_words(Counter(often))}, and {len(counts) - _MOST_VALUES} others"


def _spacings(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "not stated"
    low, high = min(known), max(known)
    said = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return said if len(known) == len(values) else f"{said}, of {len(known)} images"


def _originals(info: Mapping[str, Any], names: list[str]) -> list[tuple[str, str]]:
    """The licences of the collections that images were taken from, by their names: a re-release is not believed."""
    return [
        (
            "licence of the original",
            f"{count} of {len(names)} images are named as those of {collection.title}: {collection.licence}. Cite: "
            f"{collection.citation}",
        )
        for collection, count in originals(names).items()
        if info.get("description") != collection.title
    ]


def _patients_by_split(table: "pyarrow.Table") -> list[tuple[str, str]]:
    pairs = table.select(["patient", "split"]).group_by(["patient", "split"]).aggregate([])
    counts = Counter(str(split) for split in pairs.column("split").to_pylist() if split is not None)
    return [("patients by split", counts_in_words(counts))] if counts else []


def _lock(folder: Path) -> str:
    if not (folder / SPLITS).is_file():
        return "nothing: no splits.json"
    record = read_json(folder / SPLITS)
    if not isinstance(record, dict) or not isinstance(record.get("hash"), str):
        raise DatasetError(f"{folder / SPLITS} holds no hash: split the data set again.")
    return str(record["hash"])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
