"""Which findings of the CC and MLO views are one lesion, and what the CAD report makes of a pair.

The images are 300 pixels wide; the breast is half an ellipse that reaches 220 pixels from the chest wall. At 0.5 mm a
pixel a finding whose middle is 20 pixels farther from the chest wall is 10 mm less deep.
"""

import numpy as np
import pytest

from mammoscope.findings import Finding, Reading, ReadingStatus
from mammoscope.imaging import Laterality, Mammogram, PixelSpacing, View
from mammoscope.results import ReadMammogram, mammography_cad_sr
from mammoscope.results.verification import cad_sr_marks, concept_value, content_items
from mammoscope.results.view_matching import depths_mm, sure_pairs, view_pairs


def box(middle, down=200, half=10):
    return (middle - half, down - half, middle + half, down + half)


@pytest.fixture
def views(make_image):
    """The two views of the right breast with findings whose middles have these columns, at falling scores."""

    def make(cc, mlo, side="R", **attributes):
        def found(middles):
            return [(box(middle), 0.9 - 0.1 * number) for number, middle in enumerate(middles)]

        attributes.setdefault("spacing_mm", 0.5)
        return [
            make_image(side, "CC", 1, found(cc), **attributes),
            make_image(side, "MLO", 2, found(mlo), **attributes),
        ]

    return make


def pairs(images):
    return [(pair.cc_number, pair.mlo_number) for views in view_pairs(images) for pair in sure_pairs(views)]


@pytest.mark.parametrize(("side", "column"), [("L", 120), ("R", 180)])
def test_depth_is_measured_from_the_nipples_edge_in_millimetres(make_image, side, column):
    # Columns of the two sides mirror each other: 100 pixels, 50 mm, behind the edge at 220 and at 80.
    [depth] = depths_mm(make_image(side, "CC", 1, [(box(column), 0.9)], spacing_mm=0.5))
    assert depth == pytest.approx(50, abs=3)


def test_depth_is_measured_in_a_padded_image_too(make_image):
    plain = make_image("L", "CC", 1, [(box(120), 0.9)], spacing_mm=0.5)
    padded = np.pad(plain.mammogram.pixels, ((30, 50), (80, 40)))
    mammogram = Mammogram(padded, "x", laterality=Laterality.LEFT, view=View.CC, spacing=PixelSpacing(0.5, 0.5))
    moved = Reading("x", ReadingStatus.FOUND, (Finding(type(plain.reading.findings[0].box)(*box(200, 230)), 0.9),))
    assert depths_mm(ReadMammogram(mammogram, moved)) == pytest.approx(depths_mm(plain), abs=3)


@pytest.mark.parametrize(
    ("cc", "mlo", "expected"),
    [
        ([180], [180], [(1, 1)]),
        ([180], [206], [(1, 1)]),  # the only ones: 13 mm apart
        ([180], [214], []),  # 17 mm
        ([130, 210], [130, 210], [(1, 1), (2, 2)]),  # the wrong partner is 40 mm off
        ([130, 210], [210, 130], [(1, 2), (2, 1)]),
        ([130, 210], [132], [(1, 1)]),
        ([150, 192], [150, 192], [(1, 1), (2, 2)]),  # the wrong partner is 21 mm off
        ([150, 188], [150, 188], []),  # 19 mm
        ([130, 210], [104, 210], [(2, 2)]),  # the first two are 13 mm apart: not near enough among several
    ],
)
def test_only_sure_pairs_are_pairs(views, cc, mlo, expected):
    assert pairs(views(cc, mlo)) == expected


def test_without_a_spacing_nothing_is_sure(views):
    assert pairs(views([180], [180], spacing_mm=None)) == []


def test_where_no_chest_wall_is_seen_nothing_is_sure(make_image):
    image = make_image("R", "CC", 1, [(box(150), 0.9)], spacing_mm=0.5)
    y, x = np.mgrid[0:400, 0:300]
    middle = (((y - 200) / 150) ** 2 + ((x - 150) / 100) ** 2 < 1).astype(np.uint16) * 40000
    for pixels in (middle, np.zeros_like(middle), np.full_like(middle, 30000)):
        mammogram = Mammogram(pixels, "x", spacing=PixelSpacing(0.5, 0.5))
        assert depths_mm(ReadMammogram(mammogram, image.reading)) is None


def test_a_repeated_view_or_another_breast_is_no_partner(views, make_image):
    cc, mlo = views([180], [180])
    again = make_image("R", "MLO", 3, [(box(180), 0.9)], spacing_mm=0.5)
    other_side = make_image("L", "MLO", 4, [(box(120), 0.9)], spacing_mm=0.5)
    spot = views([180], [180])[1]
    object.__setattr__(spot.mammogram, "view_modifiers", ("spot compression",))
    assert pairs([cc, mlo, again]) == pairs([cc, other_side]) == pairs([cc, spot]) == []
    assert pairs([cc, mlo, other_side]) == [(1, 1)]


def test_findings_of_different_classes_are_no_pair(views):
    cc, mlo = views([180], [180])
    renamed = tuple(Finding(f.box, f.score, "Calcification") for f in mlo.reading.findings)
    other = ReadMammogram(mlo.mammogram, Reading("x", ReadingStatus.FOUND, renamed))
    assert pairs([cc, other]) == []


def named(document, value):
    return [item for item in content_items(document) if concept_value(item) == value]


def value_of(item):
    return item.ConceptCodeSequence[0].CodeValue


def test_a_pair_is_a_composite_feature_in_the_place_of_its_findings(views, algorithm):
    images = views([130, 210], [132])
    report = mammography_cad_sr(images, algorithm)
    first, second = named(report, "111034")
    [feature] = named(first, "111015")
    assert value_of(feature) == "129788004"
    rows = [concept_value(item) for item in feature.ContentSequence]
    # TID 4004: intent, tracking (TID 4108), then TID 4005, then the findings.
    assert rows == [
        "111056", "112039", "112040", "111016", "111057", "111001", "111003", "111011", "111059", "111059",
    ]  # fmt: skip
    assert [value_of(feature.ContentSequence[row]) for row in (0, 3, 4)] == ["111150", "111154", "111158"]
    assert float(feature.ContentSequence[7].MeasuredValueSequence[0].NumericValue) == 90
    assert [item.RelationshipType for item in feature.ContentSequence[8:]] == ["INFERRED FROM"] * 2
    [single] = named(second, "111059")
    assert single.RelationshipType == "CONTAINS"
    assert cad_sr_marks(report) == {
        "2.25.10001": [images[0].reading.findings[0].box, images[0].reading.findings[1].box],
        "2.25.10002": [images[1].reading.findings[0].box],
    }
    tracked = [item.UID for item in content_items(report) if "UID" in item]
    assert len(tracked) == len(set(tracked)) == 4


def test_the_search_for_pairs_stands_in_the_summary_of_analyses(views, algorithm):
    for mlo, composites in (([180], 1), ([220], 0)):
        report = mammography_cad_sr(views([180], mlo), algorithm)
        assert len(named(report, "111015")) == composites
        [summary] = named(report, "111065")
        assert value_of(summary) == "111222"
        [performed] = named(summary, "111004")
        assert value_of(performed) == "133885008"
        assert sum("ReferencedContentItemIdentifier" in item for item in performed.ContentSequence) == 2
