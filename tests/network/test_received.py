from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from mammoscope.network import ObjectRefusedError
from mammoscope.network.received import identify

# Referenced Image Sequence (0008,1140) of undefined length, cut in its first item's tag.
CUT_SEQUENCE = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff"


def test_a_data_set_cut_in_a_sequence_is_damaged_and_not_a_full_disk(tmp_path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        DigitalMammographyXRayImageStorageForPresentation,
        "1.2",
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    encoded = BytesIO()
    write_file_meta_info(encoded, meta)
    (tmp_path / "cut").write_bytes(b"\0" * 128 + b"DICM" + encoded.getvalue() + CUT_SEQUENCE)
    with pytest.raises(ObjectRefusedError) as refused:
        identify(tmp_path / "cut", "MODALITY", "127.0.0.1")
    assert refused.value.status == 0xC000


def test_a_file_that_cannot_be_read_is_the_disks_trouble(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        identify(tmp_path / "gone", "MODALITY", "127.0.0.1")
