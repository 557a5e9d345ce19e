"""Lossless JPEG as DDSM has it: a bare codestream without a file format around it."""

from pathlib import Path

import cv2
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLossless, SecondaryCaptureImageStorage, generate_uid

from mammoscope.datasets.errors import DatasetError
from mammoscope.imaging import MammogramError
from mammoscope.imaging.codestream import Coding, parse_codestream
from mammoscope.imaging.stored import PixelFormat, stored_values

_CONVERT = "convert it to PNG with the decoder that comes with DDSM and put the PNG beside it"


def decode_to_png(path: Path, target: Path, rows: int, columns: int) -> Path:
    """Decode a codestream into a 16-bit PNG of the same values.

    The decoder is the one that reads JPEG Lossless in DICOM files (gdcm). The program of 1993 that comes with DDSM is
    not part of Mammoscope.

    Parameters
    ----------
    rows, columns
        The size that the case file states.

    Raises
    ------
    DatasetError
        If it is no lossless JPEG of one component, does not decode, or has another size.
    """
    data = path.read_bytes()
    stream = parse_codestream(data)
    if stream is None or stream.coding is not Coding.JPEG_LOSSLESS or stream.components != 1:
        raise DatasetError(f"{path} is no lossless JPEG of one component: copy it again, or {_CONVERT}.")
    if (stream.rows, stream.columns) != (rows, columns):
        raise DatasetError(
            f"{path} has {stream.rows} rows and {stream.columns} columns where its case file states {rows} and "
            f"{columns}: {_CONVERT}."
        )
    dataset = _wrapped(data, rows, columns, stream.precision)
    try:
        pixels = stored_values(dataset, JPEGLossless, PixelFormat.of(dataset, path.name), path.name)
    except MammogramError as error:
        raise DatasetError(f"{path} cannot be decoded ({error}): {_CONVERT}.") from error
    if not cv2.imwrite(str(target), np.asarray(pixels, dtype=np.uint16)):
        raise DatasetError(f"{target} cannot be written: free room on that disk.")
    return target


def _wrapped(data: bytes, rows: int, columns: int, bits: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGLossless
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = encapsulate([data])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset
