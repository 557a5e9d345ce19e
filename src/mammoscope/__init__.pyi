"""The types of the public names, which ``__init__.py`` imports when they are first used."""

from mammoscope.datasets import AnnotatedDataset as AnnotatedDataset
from mammoscope.datasets import AnnotatedImage as AnnotatedImage
from mammoscope.datasets import DatasetError as DatasetError
from mammoscope.errors import MammoscopeError as MammoscopeError
from mammoscope.evaluation.library import Comparison as Comparison
from mammoscope.evaluation.library import Evaluation as Evaluation
from mammoscope.evaluation.library import compare as compare
from mammoscope.evaluation.library import evaluate as evaluate
from mammoscope.evaluation.matching import EvaluationError as EvaluationError
from mammoscope.evaluation.prediction_files import PixelSpace as PixelSpace
from mammoscope.evaluation.prediction_files import Predictions as Predictions
from mammoscope.evaluation.prediction_files import read_predictions as read_predictions
from mammoscope.findings import Box as Box
from mammoscope.findings import Finding as Finding
from mammoscope.findings import Reading as Reading
from mammoscope.findings import ReadingStatus as ReadingStatus
from mammoscope.imaging import Laterality as Laterality
from mammoscope.imaging import Mammogram as Mammogram
from mammoscope.imaging import MammogramError as MammogramError
from mammoscope.imaging import View as View
from mammoscope.inference import BundleError as BundleError
from mammoscope.library import Detector as Detector
from mammoscope.library import draw as draw
from mammoscope.library import load_dataset as load_dataset
from mammoscope.library import read_mammogram as read_mammogram
from mammoscope.phantom import screening_study as screening_study

__version__: str
