"""Mammography CAD SR: the report that a mammography workstation turns into CAD marks.

TID 4000 of DICOM PS3.16 and its parts; explained with examples in PS3.17 annex E. The order of items is significant.

The findings of a mammography CAD report: impressions, composite features, single image findings.

TID 4003 to 4006 and 4019 of DICOM PS3.16. A mass seen on one image is a Single Image Finding in an Individual
Impression of its own. One that is surely seen on two views is a Composite Feature in the place of its two findings,
which it is inferred from.

The image library of a mammography CAD report: what each image says of itself (TID 4020 of DICOM PS3.16).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from mammoscope.descriptors import ASSESSMENT_CATEGORY, BIRADS, IMPRESSION_DESCRIPTION
from mammoscope.findings import Algorithm, Box
from mammoscope.imaging import View, attributes
from mammoscope.results import concepts
from mammoscope.results.base import (
    ResultReference,
    ResultSeries,
    new_result,
    printable,
    replaced,
    set_predecessor,
    writable,
)
from mammoscope.results.sr_tree import (
    GraphicType,
    Item,
    Reference,
    Relationship,
    code,
    container,
    date,
    encode,
    image,
    num,
    scoord,
    sop_reference,
    text,
    time,
    uid_reference,
)
from mammoscope.results.study import (
    ReadMammogram,
    ResultError,
    TrackedFinding,
    in_hanging_order,
    result_uid,
    tracked_findings,
)
from mammoscope.results.view_matching import PAIRING, FindingPair, ViewPair, sure_pairs, view_pairs
from mammoscope.settings import ResultKind

FINDING_CODES = {
    "mass": concepts.MASS_ON_ONE_IMAGE,
    "calcification": codes.cid6014.CalcificationCluster,
    "architectural distortion": codes.cid6014.ArchitecturalDistortionOfBreast,
}
"""Single image findings (CID 6014) by the class of a finding; the group has none for an asymmetry, which on one image
would be called what a mass is."""

FEATURE_CODES = {
    "mass": concepts.MASS_ON_SEVERAL_IMAGES,
    "calcification": codes.cid6016.CalcificationCluster,
    "architectural distortion": codes.cid6016.ArchitecturalDistortionOfBreast,
    "asymmetry": codes.cid6016.AsymmetricBreastTissue,
    "lymph node": codes.cid6054.LymphNode,
}
"""Composite features (CID 6016), and findings of measurement reports (CID 6054 too), by the class of a finding."""

CODED_CLASSES = ("Mass", "Calcification", "Architectural distortion", "Asymmetry", "Lymph node")
"""The classes that a report can hold, as data sets call them."""


def uncoded_classes(read: ReadMammogram, known: Mapping[str, Code] = FINDING_CODES) -> list[str]:
    """Classes of this image's findings for which there is no code, rather than calling them a mass."""
    return sorted({finding.label for finding in read.reading.findings if finding.label.casefold() not in known})


def outline(box: Box) -> list[tuple[float, float]]:
    """The corners of a box, clockwise from the top left and back to it: a closed polyline."""
    x0, y0, x1, y1 = box.as_tuple()
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]


def impression(*tracked: tuple[TrackedFinding, Item], algorithm: Algorithm, header: Dataset) -> Item:
    """TID 4003: one finding, or two that are one lesion.

    Parameters
    ----------
    tracked
        Each finding with the library entry of its image.
    header
        Of the image whose character set the report takes over.
    """
    content = (
        _single_image_finding(Relationship.CONTAINS, *tracked[0], algorithm)
        if len(tracked) == 1
        else _composite_feature(tracked, algorithm)
    )
    return container(
        Relationship.INFERRED_FROM,
        concepts.INDIVIDUAL_IMPRESSION,
        code(Relationship.HAS_CONCEPT_MOD, concepts.RENDERING_INTENT, concepts.PRESENTATION_REQUIRED),
        *_recommendation([finding for finding, _ in tracked], algorithm, header),
        content,
    )


def _recommendation(findings: Sequence[TrackedFinding], algorithm: Algorithm, header: Dataset) -> list[Item]:
    """TID 4002: what a reader says of the lesion as a whole; of two views' assessments the more suspicious one.

    Contained, since a container has no properties in this class of document (PS3.3 A.35.5.3.1.2).
    """
    properties = Relationship.CONTAINS
    categories = [finding.description.birads for finding in findings if finding.description.birads in BIRADS]
    comments = list(dict.fromkeys(finding.description.comment for finding in findings if finding.description.comment))
    rows = []
    if categories:
        rows.append(code(properties, ASSESSMENT_CATEGORY, BIRADS[max(categories, key=list(BIRADS).index)]))
    if comments:
        rows.append(text(properties, IMPRESSION_DESCRIPTION, writable("; ".join(comments), header)))
    return [*rows, *algorithm_items(algorithm, relationship=properties)] if rows else []


def _described(finding: TrackedFinding) -> list[Item]:
    """TID 4011: shape and margins of a density."""
    if FINDING_CODES[finding.finding.label.casefold()] != concepts.MASS_ON_ONE_IMAGE:
        return []
    said = [(name, value) for name, value in finding.description.codes() if name != ASSESSMENT_CATEGORY]
    return [code(Relationship.HAS_PROPERTIES, name, value) for name, value in said]


def algorithm_items(
    algorithm: Algorithm, parameters: Sequence[str] = (), relationship: Relationship = Relationship.HAS_PROPERTIES
) -> list[Item]:
    """TID 4019."""
    return [
        text(relationship, concepts.ALGORITHM_NAME, printable(algorithm.name)),
        text(relationship, concepts.ALGORITHM_VERSION, printable(algorithm.version)),
        *(text(relationship, concepts.ALGORITHM_PARAMETERS, printable(parameter)) for parameter in parameters),
    ]


def _composite_feature(tracked: Sequence[tuple[TrackedFinding, Item]], algorithm: Algorithm) -> Item:
    """TID 4004 with 4005: as sure as the surer of its findings."""
    findings = [finding for finding, _ in tracked]
    properties, observed = Relationship.HAS_PROPERTIES, Relationship.HAS_OBS_CONTEXT
    uid = result_uid("lesion", findings[0].tracking_uid, algorithm, *(f.tracking_uid for f in findings[1:]))
    label = findings[0].finding.label
    certainty = round(max(finding.finding.score for finding in findings) * 100, 1)
    return code(
        Relationship.CONTAINS,
        concepts.COMPOSITE_FEATURE,
        FEATURE_CODES[label.casefold()],
        code(Relationship.HAS_CONCEPT_MOD, concepts.RENDERING_INTENT, concepts.PRESENTATION_REQUIRED),
        text(observed, concepts.TRACKING_IDENTIFIER, printable(f"{label} on {len(findings)} views, {uid[-12:]}")),
        uid_reference(observed, concepts.TRACKING_UNIQUE_IDENTIFIER, uid),
        code(properties, concepts.COMPOSITE_TYPE, concepts.RELATED_SPATIALLY),
        code(properties, concepts.SCOPE_OF_FEATURE, concepts.ON_MULTIPLE_IMAGES),
        *algorithm_items(PAIRING),
        num(properties, concepts.CERTAINTY_OF_FEATURE, certainty, concepts.PERCENT),
        *(_single_image_finding(Relationship.INFERRED_FROM, *one, algorithm) for one in tracked),
    )


def _single_image_finding(
    relationship: Relationship, tracked: TrackedFinding, entry: Item, algorithm: Algorithm
) -> Item:
    """TID 4006. The finding's image is the library entry that its coordinates are selected from."""
    certainty = round(tracked.finding.score * 100, 1)
    properties = Relationship.HAS_PROPERTIES
    observed = Relationship.HAS_OBS_CONTEXT
    return code(
        relationship,
        concepts.SINGLE_IMAGE_FINDING,
        FINDING_CODES[tracked.finding.label.casefold()],
        code(Relationship.HAS_CONCEPT_MOD, concepts.RENDERING_INTENT, concepts.PRESENTATION_REQUIRED),
        text(observed, concepts.TRACKING_IDENTIFIER, printable(tracked.tracking_identifier)),
        uid_reference(observed, concepts.TRACKING_UNIQUE_IDENTIFIER, tracked.tracking_uid),
        *algorithm_items(algorithm),
        num(properties, concepts.CERTAINTY_OF_FINDING, certainty, concepts.PERCENT),
        scoord(properties, concepts.CENTER, GraphicType.POINT, [tracked.box.center], entry),
        scoord(properties, concepts.OUTLINE, GraphicType.POLYLINE, outline(tracked.box), entry),
        *_described(tracked),
    )


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


_DIGITAL_MAMMOGRAPHY = (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
)


def cad_sr_obstacle(read: ReadMammogram) -> str | None:
    """Why a mammography CAD report cannot refer to this image, or ``None`` if it can.

    Referred to are Digital Mammography X-Ray images, For Presentation and For Processing. A Secondary Capture (film put
    through a digitiser) is too, if it says which breast and which view it shows, because a workstation could not tell
    where the marks belong otherwise. Other kinds of object hold no mammogram as the report means it. Findings of a
    class for which the report has no code here keep their image out too, rather than be called a mass.
    """
    header = read.header
    if uncoded := uncoded_classes(read):
        return f"the report has no code for findings of the class {', '.join(uncoded)}"
    if header.SOPClassUID in _DIGITAL_MAMMOGRAPHY:
        return None
    if header.SOPClassUID != SecondaryCaptureImageStorage:
        return f"a {header.SOPClassUID.name} object is no mammogram for a CAD report"
    known = {"laterality": breast_of(read), "view": view_of(read)}
    missing = [what for what, concept in known.items() if concept is None]
    return f"digitised film without {' and '.join(missing)}" if missing else None


def mammography_cad_sr(
    images: Sequence[ReadMammogram],
    algorithm: Algorithm,
    *,
    now: datetime | None = None,
    supersedes: Sequence[ResultReference] = (),
    missing: Sequence[str] = (),
) -> FileDataset:
    """The CAD report of one study.

    Findings of a CC and an MLO view that are surely one lesion (`mammoscope.results.view_matching`) are one composite
    feature. An image that was not read stands under Failed Detections; no code of the standard says why, so the reason
    is among the parameters of the algorithm, in words.

    Parameters
    ----------
    images
        Every mammogram of the study that was read or should have been, in any order. What the image library says of an
        image comes from its own attributes alone and is left out where the image does not say it, or says it in a way
        that cannot be understood. Side and view may be said by any attribute that `mammoscope.imaging` reads.
    now
        Content date and time; the clock's unless given.
    supersedes
        The objects of the study's earlier reports, oldest first.
    missing
        One sentence each for what the study should have held read and does not: an expected view that is absent, an
        image that the report cannot refer to. The report then never says that all succeeded, and the sentences stand
        among the parameters of its detections.

    Raises
    ------
    ResultError
        If an image cannot be referred to (see `cad_sr_obstacle`), or if the images are not of one study.
    """
    images = in_hanging_order(images)
    for read in images:
        if obstacle := cad_sr_obstacle(read):
            raise ResultError(f"{read.mammogram.name} cannot be in a mammography CAD report: {obstacle}.")
    analysed = view_pairs(images)
    pairs = [pair for views in analysed for pair in sure_pairs(views)]
    dataset = new_result(ResultSeries.CAD_SR, images, algorithm, now, content=[*_pairs_as_text(pairs), *missing])
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(images)]
    uids = [read.sop_instance_uid for read in images]
    set_predecessor(dataset, replaced(ResultKind.CAD_SR, dataset.SOPInstanceUID, uids, supersedes))
    dataset.update(encode(_Report(images, algorithm, analysed, pairs, missing).document()))
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "4000"
    dataset.ContentTemplateSequence = [template]
    return dataset


@dataclass(frozen=True)
class _Report:
    """The content tree of one report; an item stands in it once, so the library's entries are kept to refer to."""

    images: Sequence[ReadMammogram]
    algorithm: Algorithm
    analysed: Sequence[ViewPair]
    pairs: Sequence[FindingPair]
    missing: Sequence[str]

    def document(self) -> Item:
        """TID 4000."""
        library = {read.sop_instance_uid: library_entry(read) for read in self.images}
        impressions = self._impressions(library)
        return container(
            None,
            concepts.MAMMOGRAPHY_CAD_REPORT,
            code(
                Relationship.HAS_CONCEPT_MOD,
                concepts.LANGUAGE,
                concepts.ENGLISH,
                code(Relationship.HAS_CONCEPT_MOD, concepts.COUNTRY_OF_LANGUAGE, concepts.UNITED_STATES),
            ),
            container(Relationship.CONTAINS, concepts.IMAGE_LIBRARY, *library.values()),
            code(
                Relationship.CONTAINS,
                concepts.CAD_PROCESSING_AND_FINDINGS_SUMMARY,
                overall_result(self.images, found=bool(impressions), complete=not self.missing),
                *impressions,
            ),
            self._summary_of_detections(library),
            self._summary_of_analyses(library),
        )

    def _impressions(self, library: dict[str, Item]) -> list[Item]:
        """Composite features first, then the findings that are in none."""
        tracked: dict[tuple[str, int], tuple[TrackedFinding, Item]] = {
            (read.sop_instance_uid, finding.number): (finding, library[read.sop_instance_uid])
            for read in self.images
            for finding in tracked_findings(read, self.algorithm)
        }
        paired = [
            (
                tracked.pop((pair.views.cc.sop_instance_uid, pair.cc_number)),
                tracked.pop((pair.views.mlo.sop_instance_uid, pair.mlo_number)),
            )
            for pair in self.pairs
        ]
        single = [(one,) for one in tracked.values()]
        header = self.images[0].header
        return [impression(*findings, algorithm=self.algorithm, header=header) for findings in chain(paired, single)]

    def _summary_of_detections(self, library: dict[str, Item]) -> Item:
        """TID 4000 row 6 with TID 4015: on which images the search for masses succeeded, and on which it failed."""
        succeeded = [read for read in self.images if read.processed]
        failed: dict[str, list[ReadMammogram]] = {}
        for read in self.images:
            if not read.processed:
                failed.setdefault(read.reading.reason or "", []).append(read)
        thresholds = {read.reading.threshold for read in succeeded if read.reading.threshold is not None}
        absent = [f"not read: {sentence}" for sentence in self.missing]
        parameters = [*(f"threshold={threshold:.6g}" for threshold in sorted(thresholds)), *absent]
        status = concepts.PARTIALLY_SUCCEEDED
        if not failed and not absent:
            status = concepts.SUCCEEDED
        elif not succeeded:
            status = concepts.FAILED
        headings = (
            (concepts.SUCCESSFUL_DETECTIONS, [(succeeded, parameters)] if succeeded else []),
            (concepts.FAILED_DETECTIONS, [(of, [f"not processed: {why}", *absent]) for why, of in failed.items()]),
        )
        return code(
            Relationship.CONTAINS,
            concepts.SUMMARY_OF_DETECTIONS,
            status,
            *(
                container(
                    Relationship.INFERRED_FROM,
                    heading,
                    *(self._detection(sought, of, library, said) for of, said in groups for sought in _sought(of)),
                )
                for heading, groups in headings
                if groups
            ),
        )

    def _detection(
        self, sought: Code, of: Sequence[ReadMammogram], library: Mapping[str, Item], parameters: Sequence[str]
    ) -> Item:
        """TID 4017."""
        return code(
            Relationship.CONTAINS,
            concepts.DETECTION_PERFORMED,
            sought,
            *algorithm_items(self.algorithm, parameters),
            *(Reference(Relationship.HAS_PROPERTIES, library[read.sop_instance_uid]) for read in of),
        )

    def _summary_of_analyses(self, library: dict[str, Item]) -> Item:
        """TID 4000 row 7 with TID 4016 and 4018: the views that were searched for pairs."""
        if not self.analysed:
            return code(Relationship.CONTAINS, concepts.SUMMARY_OF_ANALYSES, concepts.NOT_ATTEMPTED)
        searched = [library[read.sop_instance_uid] for views in self.analysed for read in (views.cc, views.mlo)]
        performed = code(
            Relationship.CONTAINS,
            concepts.ANALYSIS_PERFORMED,
            concepts.SPATIAL_PROXIMITY_ANALYSIS,
            *algorithm_items(PAIRING),
            *(Reference(Relationship.HAS_PROPERTIES, entry) for entry in searched),
        )
        return code(
            Relationship.CONTAINS,
            concepts.SUMMARY_OF_ANALYSES,
            concepts.SUCCEEDED,
            container(Relationship.INFERRED_FROM, concepts.SUCCESSFUL_ANALYSES, performed),
        )


def _sought(images: Sequence[ReadMammogram]) -> list[Code]:
    """What was searched for on images, as far as a report can tell: masses, and what was found besides."""
    found = {finding.label.casefold() for read in images for finding in read.reading.findings}
    return [known for label, known in FINDING_CODES.items() if label == "mass" or label in found]


def _pairs_as_text(pairs: Sequence[FindingPair]) -> list[str]:
    """Another rule for pairs may make another report of the same readings."""
    return [
        f"{pair.views.cc.sop_instance_uid} {pair.cc_number} {pair.views.mlo.sop_instance_uid} {pair.mlo_number}"
        for pair in pairs
    ]


def overall_result(images: Sequence[ReadMammogram], *, found: bool, complete: bool = True) -> Code:
    """The value of TID 4001, row 1; ``complete`` says whether these images are all that should have been read."""
    processed = sum(read.processed for read in images)
    if processed == 0:
        return concepts.NONE_SUCCEEDED
    if processed == len(images) and complete:
        return concepts.ALL_SUCCEEDED_WITH_FINDINGS if found else concepts.ALL_SUCCEEDED_WITHOUT_FINDINGS
    return concepts.NOT_ALL_SUCCEEDED_WITH_FINDINGS if found else concepts.NOT_ALL_SUCCEEDED_WITHOUT_FINDINGS


def _evidence(images: Sequence[ReadMammogram]) -> Dataset:
    """The images by series, as the SR Document General module lists them (PS3.3 C.17.2)."""
    by_series: dict[str, list[Dataset]] = {}
    for read in images:
        reference = sop_reference(read.header.SOPClassUID, read.header.SOPInstanceUID)
        by_series.setdefault(read.header.SeriesInstanceUID, []).append(reference)
    study = Dataset()
    study.StudyInstanceUID = images[0].header.StudyInstanceUID
    study.ReferencedSeriesSequence = []
    for uid, references in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = uid
        series.ReferencedSOPSequence = references
        study.ReferencedSeriesSequence.append(series)
    return study
