import base64
import io
import re

from PIL import Image

from mammoscope.datasets.audit import audit_html


def test_the_page_shows_each_case_and_needs_nothing_beside_it(folder):
    name = "w1_R_CC.dcm"
    owner = folder.entry(folder.coco, name)["id"]
    box = {"id": 900, "image_id": owner, "category_id": 1, "bbox": [-20, 5, 50, 30], "area": 1500, "iscrowd": 0}
    folder.change(lambda content: content["annotations"].append(box))
    folder.change(lambda content: folder.entry(content, "w3_L_CC.dcm").update(file_name="<b>gone</b>.dcm"))

    page = audit_html(folder.audit(), reader=folder.reader)

    assert "Box over edge" in page
    assert "&lt;b&gt;gone&lt;/b&gt;.dcm is not there." in page
    assert "<b>gone" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert len(pictures) == 2  # of the box over the edge, which also lies off the breast
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as picture:
        colours = picture.convert("RGB")
        # 400 x 300 with a margin of 24 pixels: the box's top side is at 24 + 5, its left at 24 - 20
        assert colours.size == (348, 448)
        red, green, blue = colours.getpixel((20, 29))
        assert red > 150
        assert max(green, blue) < 100


def test_many_cases_are_named_without_pictures(folder):
    folder.change(lambda content: [folder.entry(content, f"w1_{s}_CC.dcm").pop("patient_id") for s in "RL"])

    page = audit_html(folder.audit(), most=1, reader=folder.reader)

    assert "1 more" in page
    assert "w1_L_CC.dcm" in page


def test_a_clean_page(folder):
    assert "Nothing was found." in audit_html(folder.audit(), reader=folder.reader)
