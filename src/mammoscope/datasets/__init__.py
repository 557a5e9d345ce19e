"""Annotated collections of mammograms: COCO in, one folder per data set, splits by patient."""

from mammoscope.datasets.coco import read_coco
from mammoscope.datasets.collections.cbis_ddsm import CaseTables
from mammoscope.datasets.dataset import AnnotatedDataset, AnnotatedImage, load_dataset
from mammoscope.datasets.errors import DatasetError, PatientUnknownError
from mammoscope.datasets.files import Hashes, write_json
from mammoscope.datasets.identity import FileNamePattern, ImageIdentity
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, LeftMark, MarkCounts, Polygon, Silence, account
from mammoscope.datasets.import_coco import ImportSummary, import_coco
from mammoscope.datasets.index import IndexedDataset, open_index, read_index, write_index
from mammoscope.datasets.operations import Output, filter_dataset, merge_datasets, remap_dataset, sample_dataset
from mammoscope.datasets.records import ImportedImage
from mammoscope.datasets.review import ReviewedBox, change_boxes, history_of, set_review
from mammoscope.datasets.review_log import ReviewState
from mammoscope.datasets.splits import (
    FoldSummary,
    Split,
    SplitSizes,
    SplitSummary,
    divide_into_folds,
    folds_of,
    split_dataset,
    split_stratified,
    with_fold_apart,
)
from mammoscope.datasets.stratification import Stratum
from mammoscope.datasets.writer import ImagesAs, WrittenDataset, write_dataset

__all__ = [
    "AnnotatedDataset",
    "AnnotatedImage",
    "CaseTables",
    "DatasetError",
    "FileNamePattern",
    "FoldSummary",
    "Hashes",
    "ImageIdentity",
    "ImageMarks",
    "ImagesAs",
    "ImportSummary",
    "ImportedBox",
    "ImportedImage",
    "IndexedDataset",
    "LeftMark",
    "MarkCounts",
    "Output",
    "PatientUnknownError",
    "Polygon",
    "ReviewState",
    "ReviewedBox",
    "Silence",
    "Split",
    "SplitSizes",
    "SplitSummary",
    "Stratum",
    "WrittenDataset",
    "account",
    "change_boxes",
    "divide_into_folds",
    "filter_dataset",
    "folds_of",
    "history_of",
    "import_coco",
    "load_dataset",
    "merge_datasets",
    "open_index",
    "read_coco",
    "read_index",
    "remap_dataset",
    "sample_dataset",
    "set_review",
    "split_dataset",
    "split_stratified",
    "with_fold_apart",
    "write_dataset",
    "write_index",
    "write_json",
]
