"""Mammography CAD SR: the report that a mammography workstation turns into CAD marks.

TID 4000 of DICOM PS3.16 and its parts; explained with examples in PS3.17 annex E. The order of items is significant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.sr.coding import Code
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from mammoscope.findings import Algorithm
from mammoscope.results import concepts
from mammoscope.results.cad_findings import algorithm_items, impression, uncoded_classes
from mammoscope.results.derived import ResultSeries, new_result
from mammoscope.results.errors import ResultError
from mammoscope.results.image_library import breast_of, library_entry, view_of
from mammoscope.results.pairing import PAIRING, FindingPair, ViewPair, sure_pairs, view_pairs
from mammoscope.results.predecessors import ResultReference, replaced, set_predecessors
from mammoscope.results.sr_items import Item, Reference, Relationship, code, container, encode, sop_reference
from mammoscope.results.study import ReadMammogram, TrackedFinding, in_hanging_order, tracked_findings
from mammoscope.settings import ResultKind

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
) -> FileDataset:
    """The CAD report of one study.

    Findings of a CC and an MLO view that are surely one lesion (`mammoscope.results.pairing`) are one composite
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
        The objects of the report that this one's replaces.

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
    dataset = new_result(ResultSeries.CAD_SR, images, algorithm, now, content=_pairs_as_text(pairs))
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(images)]
    uids = [read.sop_instance_uid for read in images]
    set_predecessors(dataset, replaced(ResultKind.CAD_SR, dataset.SOPInstanceUID, uids, supersedes))
    dataset.update(encode(_Report(images, algorithm, analysed, pairs).document()))
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
                overall_result(self.images, found=bool(impressions)),
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
        return [impression(*findings, algorithm=self.algorithm) for findings in chain(paired, single)]

    def _summary_of_detections(self, library: dict[str, Item]) -> Item:
        """TID 4000 row 6 with TID 4015: on which images the search for masses succeeded, and on which it failed."""
        succeeded = [read for read in self.images if read.processed]
        failed: dict[str, list[ReadMammogram]] = {}
        for read in self.images:
            if not read.processed:
                failed.setdefault(read.reading.reason or "", []).append(read)
        thresholds = {read.reading.threshold for read in succeeded if read.reading.threshold is not None}
        parameters = [f"threshold={threshold:.6g}" for threshold in sorted(thresholds)]
        status = concepts.PARTIALLY_SUCCEEDED
        if not failed:
            status = concepts.SUCCEEDED
        elif not succeeded:
            status = concepts.FAILED
        headings = (
            (concepts.SUCCESSFUL_DETECTIONS, [(succeeded, parameters)] if succeeded else []),
            (concepts.FAILED_DETECTIONS, [(of, [f"not processed: {why}"]) for why, of in failed.items()]),
        )
        return code(
            Relationship.CONTAINS,
            concepts.SUMMARY_OF_DETECTIONS,
            status,
            *(
                container(
                    Relationship.INFERRED_FROM,
                    heading,
                    *(self._detection([library[i.sop_instance_uid] for i in of], said) for of, said in groups),
                )
                for heading, groups in headings
                if groups
            ),
        )

    def _detection(self, entries: Sequence[Item], parameters: Sequence[str]) -> Item:
        """TID 4017."""
        return code(
            Relationship.CONTAINS,
            concepts.DETECTION_PERFORMED,
            concepts.MASS_ON_ONE_IMAGE,
            *algorithm_items(self.algorithm, parameters),
            *(Reference(Relationship.HAS_PROPERTIES, entry) for entry in entries),
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


def _pairs_as_text(pairs: Sequence[FindingPair]) -> list[str]:
    """Another rule for pairs may make another report of the same readings."""
    return [
        f"{pair.views.cc.sop_instance_uid} {pair.cc_number} {pair.views.mlo.sop_instance_uid} {pair.mlo_number}"
        for pair in pairs
    ]


def overall_result(images: Sequence[ReadMammogram], *, found: bool) -> Code:
    """The value of TID 4001, row 1."""
    processed = sum(read.processed for read in images)
    if processed == 0:
        return concepts.NONE_SUCCEEDED
    if processed == len(images):
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
