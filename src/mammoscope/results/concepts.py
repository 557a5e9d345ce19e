"""The coded concepts of a mammography CAD report, by the names that DICOM PS3.16 gives them."""

from pydicom.sr.coding import Code

# Headings and observations (PS3.16 annex D).
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_PARAMETERS = Code("111002", "DCM", "Algorithm Parameters")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
ANALYSIS_PERFORMED = Code("111004", "DCM", "Analysis Performed")
CAD_PROCESSING_AND_FINDINGS_SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
CENTER = Code("111010", "DCM", "Center")
CERTAINTY_OF_FEATURE = Code("111011", "DCM", "Certainty of Feature")
CERTAINTY_OF_FINDING = Code("111012", "DCM", "Certainty of Finding")
COMPOSITE_FEATURE = Code("111015", "DCM", "Composite Feature")
COMPOSITE_TYPE = Code("111016", "DCM", "Composite type")
CONTENT_DATE = Code("111018", "DCM", "Content Date")
CONTENT_TIME = Code("111019", "DCM", "Content Time")
COUNTRY_OF_LANGUAGE = Code("121046", "DCM", "Country of Language")
DETECTION_PERFORMED = Code("111022", "DCM", "Detection Performed")
FAILED_DETECTIONS = Code("111025", "DCM", "Failed Detections")
HORIZONTAL_PIXEL_SPACING = Code("111026", "DCM", "Horizontal Pixel Spacing")
IMAGE_LATERALITY = Code("111027", "DCM", "Image Laterality")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_VIEW = Code("111031", "DCM", "Image View")
IMAGE_VIEW_MODIFIER = Code("111032", "DCM", "Image View Modifier")
INDIVIDUAL_IMPRESSION = Code("111034", "DCM", "Individual Impression/Recommendation")
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
MAMMOGRAPHY_CAD_REPORT = Code("111036", "DCM", "Mammography CAD Report")
OUTLINE = Code("111041", "DCM", "Outline")
PATIENT_ORIENTATION_COLUMN = Code("111043", "DCM", "Patient Orientation Column")
PATIENT_ORIENTATION_ROW = Code("111044", "DCM", "Patient Orientation Row")
RENDERING_INTENT = Code("111056", "DCM", "Rendering Intent")
SCOPE_OF_FEATURE = Code("111057", "DCM", "Scope of Feature")
SINGLE_IMAGE_FINDING = Code("111059", "DCM", "Single Image Finding")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
STUDY_DATE = Code("111060", "DCM", "Study Date")
STUDY_TIME = Code("111061", "DCM", "Study Time")
SUCCESSFUL_ANALYSES = Code("111062", "DCM", "Successful Analyses")
SUCCESSFUL_DETECTIONS = Code("111063", "DCM", "Successful Detections")
SUMMARY_OF_ANALYSES = Code("111065", "DCM", "Summary of Analyses")
SUMMARY_OF_DETECTIONS = Code("111064", "DCM", "Summary of Detections")
TRACKING_IDENTIFIER = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UNIQUE_IDENTIFIER = Code("112040", "DCM", "Tracking Unique Identifier")
VERTICAL_PIXEL_SPACING = Code("111066", "DCM", "Vertical Pixel Spacing")

# CID 6034: what the display is to do with a finding.
PRESENTATION_REQUIRED = Code("111150", "DCM", "Presentation Required: Rendering device is expected to present")

# CID 6042: how a set of detections or analyses ended.
SUCCEEDED = Code("111222", "DCM", "Succeeded")
PARTIALLY_SUCCEEDED = Code("111223", "DCM", "Partially Succeeded")
FAILED = Code("111224", "DCM", "Failed")
NOT_ATTEMPTED = Code("111225", "DCM", "Not Attempted")

# CID 6047: how the whole report ended.
ALL_SUCCEEDED_WITHOUT_FINDINGS = Code("111241", "DCM", "All algorithms succeeded; without findings")
ALL_SUCCEEDED_WITH_FINDINGS = Code("111242", "DCM", "All algorithms succeeded; with findings")
NOT_ALL_SUCCEEDED_WITHOUT_FINDINGS = Code("111243", "DCM", "Not all algorithms succeeded; without findings")
NOT_ALL_SUCCEEDED_WITH_FINDINGS = Code("111244", "DCM", "Not all algorithms succeeded; with findings")
NONE_SUCCEEDED = Code("111245", "DCM", "No algorithms succeeded; without findings")

# CID 6014: a mass seen on one image is a density; "mammographic breast mass" is kept for one seen on several
# (CID 6016, Composite Feature).
MASS_ON_ONE_IMAGE = Code("129793001", "SCT", "Mammography breast density")

MASS_ON_SEVERAL_IMAGES = Code("129788004", "SCT", "Mammographic breast mass")

# CID 6035 and 6036: why the parts of a composite feature belong together, and where it was seen.
RELATED_SPATIALLY = Code("111154", "DCM", "Target content items are related spatially")
ON_MULTIPLE_IMAGES = Code("111158", "DCM", "Feature detected on multiple images")

# CID 6043: kinds of analysis.
SPATIAL_PROXIMITY_ANALYSIS = Code("133885008", "SCT", "Spatial proximity analysis")

# CID 6022
LEFT_BREAST = Code("80248007", "SCT", "Left breast")
RIGHT_BREAST = Code("73056007", "SCT", "Right breast")
BOTH_BREASTS = Code("63762007", "SCT", "Both breasts")

# CID 5000, and the country that TID 1204 wants beside it.
ENGLISH = Code("en", "RFC5646", "English")
UNITED_STATES = Code("US", "ISO3166_1", "United States")

PERCENT = Code("%", "UCUM", "Percent")
MICROMETER = Code("um", "UCUM", "micrometer")
