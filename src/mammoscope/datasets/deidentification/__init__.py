"""De-identification of DICOM images to PS3.15 Annex E, with a key file kept apart."""

from mammoscope.datasets.deidentification.burned_in import Suspicion, suspicion
from mammoscope.datasets.deidentification.dataset import Deidentifier
from mammoscope.datasets.deidentification.key_file import KeyFile, Pseudonym
from mammoscope.datasets.deidentification.profile import Keep
from mammoscope.datasets.deidentification.run import Outcome, deidentify

__all__ = ["Deidentifier", "Keep", "KeyFile", "Outcome", "Pseudonym", "Suspicion", "deidentify", "suspicion"]
