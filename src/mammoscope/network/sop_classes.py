"""What a node is sent, by SOP class (DICOM PS3.4 Annex B.5), and the transfer syntaxes it is taken in."""

from pydicom.uid import (
    JPEG2000,
    UID,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AllStoragePresentationContexts

VERIFICATION = UID("1.2.840.10008.1.1")
STORAGE_COMMITMENT = UID("1.2.840.10008.1.20.1")
STORAGE_COMMITMENT_INSTANCE = UID("1.2.840.10008.1.20.1.1")
STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
STUDY_ROOT_MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")
STUDY_ROOT_GET = UID("1.2.840.10008.5.1.4.1.2.2.3")

UNCOMPRESSED = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
COMPRESSED = (
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    RLELossless,
    JPEGLSNearLossless,
    JPEG2000,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)
TRANSFER_SYNTAXES = (*UNCOMPRESSED, *COMPRESSED)
"""In the order in which we choose among those that a peer offers."""

READ_SOP_CLASSES = (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)
"""SOP classes that may hold a mammogram; all but the first two only where their attributes say so."""

REPORTED_SOP_CLASSES = (
    BreastTomosynthesisImageStorage,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
)
"""SOP classes that a person may expect to be read and that are not: answered with success, their headers kept, and
named in the reports as not processed. A failure would end the job of a sender such as Orthanc before the mammograms
behind them."""

_ALL = tuple(UID(str(context.abstract_syntax)) for context in AllStoragePresentationContexts)
IGNORED_SOP_CLASSES = tuple(uid for uid in _ALL if uid not in {*READ_SOP_CLASSES, *REPORTED_SOP_CLASSES})
"""Every other storage SOP class: reports, presentation states, other modalities' images, whatever a PACS routes along
with a study. Answered with success: an error would make it try for ever."""

STORED_SOP_CLASSES = (*READ_SOP_CLASSES, *REPORTED_SOP_CLASSES, *IGNORED_SOP_CLASSES)
"""Every SOP class whose presentation contexts are accepted."""
