"""The content tree: order, kinds, relationships, references."""

import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from mammoscope.results import concepts
from mammoscope.results.sr_tree import (
    BY_REFERENCE,
    GraphicType,
    Reference,
    Relationship,
    code,
    container,
    encode,
    image,
    num,
    scoord,
    text,
)

HAS = Relationship.HAS_PROPERTIES


def test_references_become_positions_counted_from_one_at_the_root():
    first = image(Relationship.CONTAINS, "1.2", "1.2.1")
    second = image(Relationship.CONTAINS, "1.2", "1.2.2")
    root = container(
        None,
        concepts.MAMMOGRAPHY_CAD_REPORT,
        text(HAS, concepts.ALGORITHM_NAME, "a"),
        container(Relationship.CONTAINS, concepts.IMAGE_LIBRARY, first, second),
        scoord(HAS, concepts.CENTER, GraphicType.POINT, [(1.5, 2.5)], second),
    )
    encoded = encode(root)
    center = encoded.ContentSequence[2]
    assert center.GraphicData == [1.5, 2.5]
    assert center.ContentSequence[0].RelationshipType == "SELECTED FROM"
    assert list(center.ContentSequence[0].ReferencedContentItemIdentifier) == [1, 2, 2]
    assert "RelationshipType" not in encoded


def test_a_reference_out_of_the_tree_is_refused():
    stray = image(Relationship.CONTAINS, "1.2", "1.2.3")
    root = container(None, concepts.IMAGE_LIBRARY, Reference(HAS, stray))
    with pytest.raises(ValueError, match="outside the tree"):
        encode(root)


def test_an_item_stands_in_the_tree_once():
    item = text(HAS, concepts.ALGORITHM_NAME, "a")
    with pytest.raises(ValueError, match="twice"):
        encode(container(None, concepts.IMAGE_LIBRARY, item, item))


@pytest.mark.parametrize("relationship", [r for r in Relationship if r not in BY_REFERENCE])
def test_only_three_relationships_go_by_reference(relationship):
    with pytest.raises(ValueError, match="by reference"):
        Reference(relationship, image(Relationship.CONTAINS, "1.2", "1.2.3"))


def test_an_image_has_no_name_and_a_number_has_its_unit():
    encoded = encode(
        container(
            None,
            concepts.IMAGE_LIBRARY,
            image(Relationship.CONTAINS, "1.2", "1.2.1"),
            num(HAS, concepts.CERTAINTY_OF_FINDING, 93.7, concepts.PERCENT),
            code(HAS, concepts.IMAGE_VIEW, concepts.LEFT_BREAST),
        )
    )
    entry, certainty, view = encoded.ContentSequence
    assert "ConceptNameCodeSequence" not in entry
    (measured,) = certainty.MeasuredValueSequence
    assert float(measured.NumericValue) == 93.7
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    assert view.ConceptCodeSequence[0].CodeMeaning == "Left breast"


def test_a_number_fits_a_decimal_string():
    encoded = encode(container(None, concepts.IMAGE_LIBRARY, num(HAS, concepts.CENTER, 1e3 / 3, concepts.MICROMETER)))
    assert str(encoded.ContentSequence[0].MeasuredValueSequence[0].NumericValue) == "333.3333333"


def test_every_concept_is_the_standards_own():
    known = {
        (concept.scheme_designator, concept.value): concept.meaning
        for scheme in (codes.DCM, codes.SCT, codes.UCUM)
        for name in scheme.dir()
        if isinstance(concept := getattr(scheme, name), Code)
    }
    ours = [value for value in vars(concepts).values() if isinstance(value, Code)]
    checked = [concept for concept in ours if concept.scheme_designator in ("DCM", "SCT")]
    assert len(checked) > 40
    for concept in checked:
        meaning = known[concept.scheme_designator, concept.value].replace("\u200b", "")
        for addition in (" structure (body structure)", " finding (finding)"):
            meaning = meaning.removesuffix(addition)
        assert meaning.casefold() == concept.meaning.casefold()
