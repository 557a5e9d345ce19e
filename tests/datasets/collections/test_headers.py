from mammoscope.datasets.collections.scan import read_headers
from mammoscope.imaging import Laterality, View


def test_headers_say_what_importers_need(lay, grey):
    path = lay("x").dicom(
        "1.dcm", grey(8, 6), PatientID="p", StudyInstanceUID="1.2", SeriesInstanceUID="1.3", ImageLaterality="R",
        ViewPosition="MLO", Manufacturer="ACME", ManufacturerModelName="One", PixelSpacing=[0.1, 0.1],
        SOPInstanceUID="1.4", SeriesDescription="full mammogram images",
    )  # fmt: skip
    (header,) = read_headers([path])
    assert (header.rows, header.columns, header.bits_allocated) == (8, 6, 16)
    assert (header.patient, header.study, header.series, header.sop_instance) == ("p", "1.2", "1.3", "1.4")
    assert (header.laterality, header.view) == (Laterality.RIGHT, View.MLO)
    assert (header.scanner, header.spacing_mm, header.modality) == ("ACME One", (0.1, 0.1), "MG")
    assert header.problem is None


def test_what_cannot_be_read_says_why_and_nothing_else(lay, grey):
    laid = lay("x")
    cut = laid.dicom("cut.dcm", grey(8, 6))
    cut.write_bytes(cut.read_bytes()[:300])
    text = laid.text("words.dcm", "no DICOM at all, only words that go on for a while" * 10)
    assert [bool(header.problem) for header in read_headers([cut, text, laid.folder / "nowhere.dcm"])] == [True] * 3


def test_several_processes_return_the_same_in_the_same_order(lay, grey):
    laid = lay("x")
    paths = [laid.dicom(f"{number:04d}.dcm", grey(4, 4), PatientID=str(number)) for number in range(600)]
    told: list[tuple[str, int, int]] = []
    headers = read_headers(paths, lambda *state: told.append(state), workers=2)
    assert [header.patient for header in headers] == [str(number) for number in range(600)]
    assert told[-1] == ("reading headers", 600, 600)
