"""A reading as objects that a PACS keeps and a reader sees: reports, marks, pictures, masks, heat maps.

Objects in, objects out: nothing here opens a file or a connection.
"""

from mammoscope.results.assessment import (
    AssessedFinding,
    AssessedImage,
    AssessedReport,
    Assessment,
    assessment_sr,
)
from mammoscope.results.base import ResultReference
from mammoscope.results.mammography_cad_sr import CODED_CLASSES, cad_sr_obstacle, mammography_cad_sr
from mammoscope.results.measurement_report import ai_sr, ai_sr_obstacle
from mammoscope.results.observation_message import Addressing, observation_message
from mammoscope.results.presentation_state import presentation_state, presentation_state_obstacle
from mammoscope.results.rendering import draw_reading
from mammoscope.results.secondary_capture import draw_heat_map, heat_map_capture, image_capture, secondary_capture
from mammoscope.results.segmentation import segmentation, segmentation_obstacle
from mammoscope.results.study import ReadMammogram, ResultError
from mammoscope.results.study_results import (
    Result,
    StudyResults,
    absent_view_sentence,
    result_objects,
    study_results,
)
from mammoscope.results.verification import verify_against_reading

__all__ = [
    "CODED_CLASSES",
    "Addressing",
    "AssessedFinding",
    "AssessedImage",
    "AssessedReport",
    "Assessment",
    "ReadMammogram",
    "Result",
    "ResultError",
    "ResultReference",
    "StudyResults",
    "absent_view_sentence",
    "ai_sr",
    "ai_sr_obstacle",
    "assessment_sr",
    "cad_sr_obstacle",
    "draw_heat_map",
    "draw_reading",
    "heat_map_capture",
    "image_capture",
    "mammography_cad_sr",
    "observation_message",
    "presentation_state",
    "presentation_state_obstacle",
    "result_objects",
    "secondary_capture",
    "segmentation",
    "segmentation_obstacle",
    "study_results",
    "verify_against_reading",
]
