"""Damaged bytes end in a mammogram or in one sentence, and nothing else."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from mammoscope.imaging import Mammogram, MammogramError

PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


@pytest.fixture(scope="module")
def originals(make_mg, film, tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    made = []
    for syntax in (*PLAIN, *COMPRESSED):
        dataset = make_mg(film, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
        if syntax in COMPRESSED:
            dataset.compress(syntax, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(folder / "one", enforce_file_format=True)
        made.append((folder / "one").read_bytes())
    gdcm = pytest.importorskip("gdcm")
    (folder / "source").write_bytes(made[0])
    source = gdcm.ImageReader()
    source.SetFileName(str(folder / "source"))
    assert source.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(source.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(folder / "one"))
    writer.SetFile(source.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    made.append((folder / "one").read_bytes())
    for suffix in ("png", "tif", "jpg"):
        picture = (film >> 4).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"one.{suffix}")
        made.append((folder / f"one.{suffix}").read_bytes())
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes(data, originals, reader, tmp_path):
    damaged = bytearray(data.draw(st.sampled_from(originals)))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(128, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(132, len(damaged))) :]
    path = tmp_path / "mg.dcm"
    path.write_bytes(damaged)
    try:
        mammogram = reader.read(path)
    except MammogramError as error:
        outcome = str(error)
    else:
        outcome = mammogram
    if isinstance(outcome, Mammogram):
        assert outcome.pixels.size > 0
    else:
        assert "mg.dcm" in outcome
        assert "\n" not in outcome
