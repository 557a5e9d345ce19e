"""Annotations in the formats of other programs, in and out."""

from mammoscope.datasets.formats.base import AnnotationReader, LabelledFile, ReadOptions
from mammoscope.datasets.formats.exporting import WRITERS, ExportSummary, export_dataset
from mammoscope.datasets.formats.importing import READERS, FormatImport, import_annotations

__all__ = [
    "READERS",
    "WRITERS",
    "AnnotationReader",
    "ExportSummary",
    "FormatImport",
    "LabelledFile",
    "ReadOptions",
    "export_dataset",
    "import_annotations",
]
