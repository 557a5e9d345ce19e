"""CBIS-DDSM's case tables: what radiologists wrote of each abnormality, joined to images by patient, side and view.

The tables: ``mass_case_description_*.csv`` and ``calc_case_description_*.csv`` of
https://www.cancerimagingarchive.net/collection/cbis-ddsm/.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.identity import ImageIdentity, laterality_of, view_of
from mammoscope.imaging import Laterality, View

SEVERAL = "several"
"""The value where the abnormalities of one image differ: the tables do not say which box is which."""

_PATIENT, _SIDE, _VIEW = "patient_id", "left or right breast", "image view"
_ATTRIBUTES = {  # the mass and the calcification tables differ in one name
    "breast_density": "density",
    "breast density": "density",
    "mass shape": "shape",
    "mass margins": "margins",
    "calc type": "calcification_type",
    "calc distribution": "calcification_distribution",
    "assessment": "assessment",
    "pathology": "pathology",
    "subtlety": "subtlety",
}
_Key = tuple[str, Laterality, View]


@dataclass(frozen=True, slots=True)
class CaseTables:
    """Attributes by patient, side and view."""

    attributes: dict[_Key, dict[str, str]]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Self:
        """Read case tables; of several rows for one image, values that differ become ``several``.

        Raises
        ------
        DatasetError
            If one cannot be read or is no such table.
        """
        found: dict[_Key, dict[str, str]] = {}
        for path in paths:
            for key, row in _rows(path):
                known = found.setdefault(key, {})
                for attribute, value in row.items():
                    known[attribute] = value if known.get(attribute, value) == value else SEVERAL
        return cls(found)

    def of(self, identity: ImageIdentity) -> dict[str, str]:
        """What they say of an image; empty where they say nothing."""
        if identity.laterality is None or identity.view is None:
            return {}
        return self.attributes.get((_patient(identity.patient), identity.laterality, identity.view), {})


def _rows(path: Path) -> list[tuple[_Key, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = set(reader.fieldnames or ())
            if missing := {_PATIENT, _SIDE, _VIEW} - names:
                raise DatasetError(f"{path} is not a CBIS-DDSM case table: it has no column {sorted(missing)[0]!r}.")
            return [_row(path, reader.line_num, row) for row in reader]
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error):
        raise DatasetError(f"{path} is not a CSV file.") from None


def _row(path: Path, line: int, row: dict[str, str | None]) -> tuple[_Key, dict[str, str]]:
    side, view = laterality_of(row[_SIDE]), view_of(row[_VIEW])
    if side is None or view is None or not row[_PATIENT]:
        raise DatasetError(f"{path}: the row that ends in line {line} names no patient, side and view.")
    values = {name: (row.get(column) or "").strip() for column, name in _ATTRIBUTES.items() if column in row}
    return (_patient(row[_PATIENT] or ""), side, view), {name: value for name, value in values.items() if value}


def _patient(name: str) -> str:
    return name.strip().removeprefix("P_")
