"""The image library of a mammography CAD report: what each image says of itself (TID 4020 of DICOM PS3.16)."""

import re

from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from mammoscope.imaging import View, attributes
from mammoscope.results import concepts
from mammoscope.results.sr_items import Item, Relationship, code, date, image, num, text, time
from mammoscope.results.study import ReadMammogram

_BREAST = {
    "L": concepts.LEFT_BREAST,
    "R": concepts.RIGHT_BREAST,
    "B": concepts.BOTH_BREASTS,
}
# CID 4014. It has no code for the views AT and CV, which are MLO and CC with a modifier, nor here for a plain XCC.
_VIEW = {
    View.CC: codes.cid4014.CranioCaudal,
    View.MLO: codes.cid4014.MedioLateralObliqueProjection,
    View.ML: codes.cid4014.MedioLateralProjection,
    View.LM: codes.cid4014.LateroMedial,
    View.LMO: codes.cid4014.LateroMedialOblique,
    View.SIO: codes.cid4014.SuperolateralToInferomedialOblique,
    View.FB: codes.cid4014.CaudoCranial,
    View.XCCL: codes.cid4014.CranioCaudalExaggeratedLaterally,
    View.XCCM: codes.cid4014.CranioCaudalExaggeratedMedially,
    View.ISO: codes.cid4014.InferomedialToSuperolateralOblique,
}
_DATE = re.compile(r"\d{8}")
_TIME = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_MAX_CODE_VALUE = 16
_SNOMED_RT = ("SRT", "SNM3", "99SDM")


def library_entry(read: ReadMammogram) -> Item:
    """TID 4020: each row is there exactly if the image says it."""
    header = read.header
    context = Relationship.HAS_ACQ_CONTEXT
    rows: list[Item] = []
    if breast := breast_of(read):
        rows.append(code(context, concepts.IMAGE_LATERALITY, breast))
    if view := view_of(read):
        modifiers = [
            code(Relationship.HAS_CONCEPT_MOD, concepts.IMAGE_VIEW_MODIFIER, modifier)
            for described in attributes.items(header, "ViewCodeSequence")[:1]
            for item in attributes.items(described, "ViewModifierCodeSequence")
            if (modifier := _current(item))
        ]
        rows.append(code(context, concepts.IMAGE_VIEW, view, *modifiers))
    if orientation := orientation_of(read):
        rows.append(text(context, concepts.PATIENT_ORIENTATION_ROW, orientation[0]))
        rows.append(text(context, concepts.PATIENT_ORIENTATION_COLUMN, orientation[1]))
    for keyword, concept, item, form in (
        ("StudyDate", concepts.STUDY_DATE, date, _DATE),
        ("StudyTime", concepts.STUDY_TIME, time, _TIME),
        ("ContentDate", concepts.CONTENT_DATE, date, _DATE),
        ("ContentTime", concepts.CONTENT_TIME, time, _TIME),
    ):
        said = attributes.text(header, keyword)
        if said and form.fullmatch(said):
            rows.append(item(context, concept, said))
    spacing = attributes.pair(header, "ImagerPixelSpacing") or attributes.pair(header, "PixelSpacing")
    if spacing:
        rows.append(num(context, concepts.HORIZONTAL_PIXEL_SPACING, spacing.column_mm * 1000, concepts.MICROMETER))
        rows.append(num(context, concepts.VERTICAL_PIXEL_SPACING, spacing.row_mm * 1000, concepts.MICROMETER))
    return image(Relationship.CONTAINS, header.SOPClassUID, header.SOPInstanceUID, *rows)


def breast_of(read: ReadMammogram) -> Code | None:
    """Which breast: as Image Laterality says, which alone can say both, or else as the mammogram knows."""
    said = attributes.text(read.header, "ImageLaterality")
    return _BREAST.get(said or "") or _BREAST.get(read.mammogram.laterality or "")


def view_of(read: ReadMammogram) -> Code | None:
    """Which view: the image's own code, or else the code of what View Position or the like says."""
    described = attributes.items(read.header, "ViewCodeSequence")[:1]
    own = _current(described[0]) if described else None
    return own or (_VIEW.get(read.mammogram.view) if read.mammogram.view else None)


def orientation_of(read: ReadMammogram) -> tuple[str, str] | None:
    """Patient Orientation of the rows and of the columns, where the image says both."""
    said = read.header.get("PatientOrientation")
    if not said or isinstance(said, str) or len(said) != 2 or not all(said):
        return None
    return str(said[0]), str(said[1])


def _current(item: Dataset) -> Code | None:
    """The code of a view or modifier, in today's SNOMED CT where an old image has the retired SNOMED RT.

    ``None`` where it is incomplete, or longer than the short code values of the concepts that are meant here.
    """
    value, scheme = attributes.code(item), attributes.text(item, "CodingSchemeDesignator")
    if not value or not scheme or len(value) > _MAX_CODE_VALUE:
        return None
    found = Code(value, scheme, attributes.text(item, "CodeMeaning") or value)
    if found.scheme_designator not in _SNOMED_RT:
        return found
    retired = Code(found.value, "SRT", found.meaning)
    known = [getattr(group, name) for group in (codes.cid4014, codes.cid4015) for name in group.dir()]
    return next((concept for concept in known if retired == concept), found)
