import shutil
from pathlib import Path

import numpy as np
import pytest

from mammoscope.datasets import DatasetError
from mammoscope.datasets.collections.masks import binary_dicom
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

from .conftest import film, noise, write_csv

MASS = ["patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "abnormality type",
        "mass shape", "mass margins", "assessment", "pathology", "subtlety", "image file path", "cropped image file path",
        "ROI mask file path"]  # fmt: skip
CALC = ["patient_id", "breast density", "left or right breast", "image view", "abnormality id", "abnormality type",
        "calc type", "calc distribution", "assessment", "pathology", "subtlety", "image file path",
        "cropped image file path", "ROI mask file path"]  # fmt: skip
