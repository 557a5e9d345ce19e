"""Annotated collections of mammograms: COCO in, one folder per data set, splits by patient."""

from mammoscope.datasets.case_tables import CaseTables
from mammoscope.datasets.coco import read_coco
from mammoscope.datasets.dataset import AnnotatedDataset, AnnotatedImage, load_dataset
from mammoscope.datasets.errors import DatasetError, PatientUnknownError
from mammoscope.datasets.files import write_json
from mammoscope.datasets.folds import FoldSummary, divide_into_folds, folds_of, with_fold_apart
from mammoscope.datasets.identity import FileNamePattern, ImageIdentity
from mammoscope.datasets.imported import ImportedBox, ImportedImage, Polygon
from mammoscope.datasets.importing import ImportSummary, import_coco
from mammoscope.datasets.new_folder import ImagesAs
from mammoscope.datasets.review_state import ReviewState
from mammoscope.datasets.splitting import Split, SplitSummary, split_dataset
from mammoscope.datasets.writing import WrittenDataset, write_dataset

__all__ = [
    "AnnotatedDataset",
    "AnnotatedImage",
    "CaseTables",
    "DatasetError",
    "FileNamePattern",
    "FoldSummary",
    "ImageIdentity",
    "ImagesAs",
    "ImportSummary",
    "ImportedBox",
    "ImportedImage",
    "PatientUnknownError",
    "Polygon",
    "ReviewState",
    "Split",
    "SplitSummary",
    "WrittenDataset",
    "divide_into_folds",
    "folds_of",
    "import_coco",
    "load_dataset",
    "read_coco",
    "split_dataset",
    "with_fold_apart",
    "write_dataset",
    "write_json",
]
