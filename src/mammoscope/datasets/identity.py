"""Whose mammogram an image is, and which: patient, laterality, view."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mammoscope.datasets.errors import DatasetError, PatientUnknownError
from mammoscope.imaging import Laterality, View

CBIS_DDSM = r"(?:^|[/_])(?:P_)?(?P<patient>\d+)_(?P<laterality>LEFT|RIGHT)_(?P<view>CC|MLO)(?![A-Za-z0-9])"
"""CBIS-DDSM's names, with and without the collection's prefix: ``Mass-Test_P_00016_LEFT_CC``, ``00016_LEFT_CC``."""

_LATERALITIES = {
    "L": Laterality.LEFT, "LEFT": Laterality.LEFT, "R": Laterality.RIGHT, "RIGHT": Laterality.RIGHT,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageIdentity:
    """What is known about one image beside its pixels."""

    patient: str
    laterality: Laterality | None = None
    view: View | None = None


@dataclass(frozen=True, slots=True)
class FileNamePattern:
    """A regular expression that finds the patient in a file's name.

    Parameters
    ----------
    expression
        Searched in the file's name without its folders, since two folders (``train``, ``valid``) would make two
        patients of one; in the whole path as well where the expression has a ``/``. The named group ``patient`` is
        needed; ``laterality`` and ``view`` are used where they are there.
    """

    expression: re.Pattern[str]

    @classmethod
    def compile(cls, expression: str | None) -> Self:
        """The pattern of that text, or CBIS-DDSM's for ``None``.

        Raises
        ------
        DatasetError
            If it is not a regular expression or has no group called ``patient``.
        """
        try:
            pattern = re.compile(CBIS_DDSM if expression is None else expression)
        except re.error as error:
            raise DatasetError(f"the patient pattern {expression!r} is not a regular expression: {error}.") from None
        if "patient" not in pattern.groupindex:
            raise DatasetError(
                f"the patient pattern {expression!r} needs a group called patient, for example '(?P<patient>[0-9]+)_'."
            )
        return cls(pattern)

    def _search(self, file_name: str, bare: str) -> re.Match[str] | None:
        if "/" in self.expression.pattern:
            return self.expression.search(file_name) or self.expression.search(bare)
        return self.expression.search(bare)

    def identify(self, file_name: str, facts: Mapping[str, Any]) -> ImageIdentity:
        """Identity from the image's COCO keys ``patient_id``, ``laterality``, ``view``, else from its file's name.

        Raises
        ------
        PatientUnknownError
            If neither names the patient. An image is never taken for a patient of its own without being told so:
            two views of one breast in two splits would make every figure too good.
        """
        match = self._search(file_name, file_name.rpartition("/")[2])
        named = match.groupdict() if match else {}
        patient = facts.get("patient_id")
        if patient is None or not str(patient).strip():
            patient = named.get("patient")
        if not patient and patient != 0:
            raise PatientUnknownError(
                f"no patient is known for image {file_name}: give its COCO image entry a patient_id, or say with "
                "--patient-pattern how file names hold the patient, for example --patient-pattern "
                "'^(?P<patient>[^_]+)_' (or '^(?P<patient>.+)$' if every image is of another patient)."
            )
        return ImageIdentity(
            patient=str(patient).strip(),
            laterality=laterality_of(facts.get("laterality") or named.get("laterality")),
            view=view_of(facts.get("view") or named.get("view")),
        )


_DENIED = re.compile(
    r"(?:\b(?:no|non|not|without)\b|\b(?:no|non)-)[\s-]*(?:(?:definite|suspicious|discrete|focal)\s+)*$"
)
"""What denies the word that comes after it: 'non-mass enhancement', 'no suspicious mass'."""


def kinds_in(text: str, kinds: Mapping[str, str]) -> list[str]:
    """The kinds of lesion that a text names, in the order of ``kinds``, each once.

    Parameters
    ----------
    kinds
        Kind by how its words begin, in lower case; a word that is denied does not count.
    """
    words = text.casefold()
    return list(
        dict.fromkeys(
            kind
            for beginning, kind in kinds.items()
            if any(
                not _DENIED.search(words[: found.start()]) for found in re.finditer(rf"\b{re.escape(beginning)}", words)
            )
        )
    )


def laterality_of(text: object) -> Laterality | None:
    """``L``, ``R``, ``left``, ``right`` in any case; ``None`` for anything else."""
    return _LATERALITIES.get(str(text).strip().upper())


def view_of(text: object) -> View | None:
    """A view by its abbreviation in any case; ``None`` for anything else."""
    try:
        return View(str(text).strip().upper())
    except ValueError:
        return None
