"""Each format's example, with its quirks, against boxes worked out by hand. Pictures have 100 rows, 200 columns."""

import json
import math

import pytest

from mammoscope.datasets import DatasetError, ReviewState
from mammoscope.datasets.formats.base import ImageFolder, ReadOptions
from mammoscope.datasets.formats.coco import read_detectron2
from mammoscope.datasets.formats.csv import read_csv
from mammoscope.datasets.formats.cvat import read_cvat
from mammoscope.datasets.formats.label_studio import read_label_studio
from mammoscope.datasets.formats.pascal_voc import read_labelme, read_voc
from mammoscope.datasets.formats.via import read_via
from mammoscope.datasets.formats.yolo import read_yolo
from mammoscope.datasets.image_marks import LeftMark

ONE, TWO = "p1_L_CC.png", "p2_R_MLO.png"


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def voc(frame, name="Mass"):
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), frame, strict=True)
    )
    return (
        "<annotation><filename>p1_L_CC.png</filename><size><width>200</width><height>100</height></size>"
        f"<object><name>{name}</name><difficult>1</difficult><bndbox>{sides}</bndbox>"
        "<part><bndbox><xmin>1</xmin></bndbox></part></object></annotation>"
    )


def test_voc_counts_from_one_and_includes_both_ends(read, tmp_path):
    written(tmp_path / "voc/a.xml", voc((1, 11, 10, 20)))
    assert read(read_voc, tmp_path / "voc") == {ONE: [("Mass", 0, 10, 10, 20)]}
    assert read(read_voc, tmp_path / "voc", counts_from=0) == {ONE: [("Mass", 1, 11, 10, 20)]}
    written(tmp_path / "voc/a.xml", voc((0, 11, 10, 20)))
    with pytest.raises(DatasetError, match=r"a\.xml, object 1: xmin 0.*--counts-from 0"):
        read(read_voc, tmp_path / "voc")
    assert read(read_voc, tmp_path / "voc", counts_from=0) == {ONE: [("Mass", 0, 11, 10, 20)]}


def test_yolo_boxes_polygons_and_images_without_a_file(read, tmp_path):
    written(tmp_path / "y/data.yaml", "names:\n  0: Mass\n  1: Calc\n")
    # centre 0.5 x 200 = 100, width 0.1 x 200 = 20; centre 0.25 x 100 = 25, height 0.3 x 100 = 30
    written(tmp_path / "y/labels/p1_L_CC.txt", "1 0.5 0.25 0.1 0.3\n\n0 0.1 0.1 0.2 0.1 0.2 0.4\n")
    assert read(read_yolo, tmp_path / "y") == {ONE: [("Calc", 90, 10, 110, 40), ("Mass", 20, 10, 40, 40)], TWO: []}
    assert read(read_yolo, tmp_path / "y/labels", classes=("a", "b"))[ONE][0][0] == "b"
    for names, said in (
        ("&a [[x, x], [x, x]]", "data.yaml: its names are not texts, one for each class"),
        ("0x" + "9" * 5000, "the names of the classes are not known"),
        ("[0x" + "9" * 5000 + "]", "its names are not texts"),
        ("[2001-99-99]", "is not valid YAML"),
        (f"&a [&b [{', '.join('x' * 90)}], {', '.join(['*b'] * 2000)}]", "data.yaml is not valid YAML of plain values"),
    ):
        written(tmp_path / "bad/data.yaml", f"names: {names}\n")
        written(tmp_path / "bad/labels/p1_L_CC.txt", "0 0.5 0.25 0.1 0.3\n")
        with pytest.raises(DatasetError, match=said):
            read(read_yolo, tmp_path / "bad")
    for line, said in (
        ("2 0.5 0.5 0.1 0.1", "line 1: there is no class 2; the classes are 0 to 1"),
        ("0 100 25 20 30", "line 1: YOLO's values are shares"),
        ("0 0.5 0.5 0.1 0.1 0.9", "line 1: 6 values"),
        ("0 0,5 0.5 0.1 0.1", "line 1: a value is '0,5'.*point, not a comma"),
    ):
        written(tmp_path / "y/labels/p1_L_CC.txt", line)
        with pytest.raises(DatasetError, match=said):
            read(read_yolo, tmp_path / "y")


def test_csv_of_edges_and_of_sizes_and_from_windows(read, tmp_path):
    table = written(
        tmp_path / "a.csv",
        "Path;Class;xmin;ymin;xmax;ymax;margins\nC:\\scans\\p1_L_CC.png;Mass;1.5;2;3;4;spiculated\n"
        "p2_R_MLO.png;;;;;;\np1_L_CC.png;Calc;5;6;7;8;\n",
    )
    assert read(read_csv, table) == {ONE: [("Mass", 1.5, 2, 3, 4), ("Calc", 5, 6, 7, 8)], TWO: []}
    table = written(tmp_path / "b.csv", "image,x,y,w,h\np1_L_CC.png,1,2,3,4\n")
    assert read(read_csv, table, label="Mass") == {ONE: [("Mass", 1, 2, 4, 6)]}


RECT = {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 40}
TURNED = {"name": "ellipse", "cx": 100, "cy": 50, "rx": 30, "ry": 10, "theta": math.pi / 2}
POLYGON = {"name": "polygon", "all_points_x": [1, 9, 5], "all_points_y": [2, 2, 8]}
CIRCLE = {"name": "circle", "cx": 50, "cy": 50, "r": 5}
VIA_BOXES = {
    ONE: [("Mass", 10, 20, 40, 60), ("Mass", 90, 20, 110, 80), ("Calc", 1, 2, 9, 8), ("Calc", 45, 45, 55, 55)],
    TWO: [],
}
VIA_REGIONS = [(RECT, "Mass"), (TURNED, "Mass"), (POLYGON, "Calc"), (CIRCLE, "Calc")]


def regions():
    return [{"shape_attributes": shape, "region_attributes": {"type": label, "n": ""}} for shape, label in VIA_REGIONS]


@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_via_json(read, tmp_path, version, project):
    theirs = dict(enumerate(regions())) if version == 1 else regions()
    files = {
        f"{ONE}123": {"filename": ONE, "size": 123, "regions": theirs, "file_attributes": {}},
        f"{TWO}9": {"filename": TWO, "size": 9, "regions": {} if version == 1 else [], "file_attributes": {}},
    }
    path = written(tmp_path / "via.json", {"_via_settings": {}, "_via_img_metadata": files} if project else files)
    assert read(read_via, path) == VIA_BOXES


def test_via_csv(read, tmp_path):
    def quoted(value):
        return '"' + json.dumps(value).replace('"', '""') + '"'

    lines = ["#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"]
    lines += [
        f'{ONE},123,"{{}}",4,{n},{quoted(region["shape_attributes"])},{quoted(region["region_attributes"])}'
        for n, region in enumerate(regions())
    ]
    lines += [f'{TWO},9,"{{}}",0,0,"{{}}","{{}}"']
    assert read(read_via, written(tmp_path / "via.csv", "\n".join(lines))) == VIA_BOXES


VIA3 = {
    "project": {"pid": "x"}, "config": {},
    "attribute": {"1": {"aname": "lesion", "type": 3, "options": {"0": "Mass", "1": "Calc"}}},
    "file": {"1": {"fid": "1", "fname": ONE, "src": ""}, "2": {"fid": "2", "fname": TWO, "src": ""}},
    "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
    "metadata": {
        "1_a": {"vid": "1", "z": [], "xy": [2, 10, 20, 30, 40], "av": {"1": "0"}},
        "1_b": {"vid": "1", "z": [], "xy": [7, 1, 2, 9, 2, 5, 8], "av": {"1": "1"}},
        "1_c": {"vid": "1", "z": [], "xy": [4, 100, 50, 30, 10], "av": {"1": "0"}},
        "2_d": {"vid": "2", "z": [], "xy": [], "av": {"9": "whole image"}},
    },
}  # fmt: skip


def test_via3_json(read, tmp_path):
    assert read(read_via, written(tmp_path / "via3.json", VIA3)) == {
        ONE: [("Mass", 10, 20, 40, 60), ("Calc", 1, 2, 9, 8), ("Mass", 70, 40, 130, 60)],
        TWO: [],
    }


def test_via3_csv_as_it_quotes(read, tmp_path, pictures):
    """VIA 3 doubles the closing quote of the list of files, but not the opening one."""
    path = written(
        tmp_path / "via3.csv",
        "# Exported using VGG Image Annotator\n"
        '# ATTRIBUTE = {"1":{"aname":"lesion","type":3,"options":{"0":"Mass","1":"Calc"}}}\n'
        "# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata\n"
        '"1_a","["p1_L_CC.png""]",0,"[]","[2,10,20,30,40]","{""1"":""1""}"\n',
    )
    assert read(read_via, path) == {ONE: [("Calc", 10, 20, 40, 60)]}
    path.write_text(path.read_text().replace("[2,10,20,30,40]", "[1,10,20]"))
    (labelled,) = read_via(path, ImageFolder(pictures), ReadOptions())
    assert labelled.boxes == ()
    assert labelled.marks.passed_over == (LeftMark("a point, which has no area", f"{path}, line 4"),)
    assert labelled.marks.state is ReviewState.UNANNOTATED


def region(value, kind="rectanglelabels", **more):
    return {"type": kind, "original_width": 200, "original_height": 100, "value": value} | more


def task(*results, image="/data/upload/1/0badcafe-p1_L_CC.png", **more):
    return {
        "id": 7,
        "data": {"image": image},
        "annotations": [{"id": n, "result": list(r)} for n, r in enumerate(results)],
    } | more


def test_label_studio_percentages_and_rotation(read, tmp_path):
    box = region({"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["Mass"]})
    # top left corner at (100, 50), 20 wide, 10 high, turned by 90 degrees clockwise about that corner:
    # it reaches down by its width and to the left by its height
    turned = region({"x": 50, "y": 50, "width": 10, "height": 10, "rotation": 90, "rectanglelabels": ["Calc"]})
    outline = region({"points": [[0, 0], [10, 0], [10, 10]], "polygonlabels": ["Mass"]}, "polygonlabels")
    oval = region({"x": 50, "y": 50, "radiusX": 5, "radiusY": 20, "ellipselabels": ["Mass"]}, "ellipselabels")
    choice = {"type": "choices", "from_name": "density", "value": {"choices": ["C"]}}
    source = written(tmp_path / "ls.json", [task([box, turned, outline, oval, choice])])
    assert read(read_label_studio, source) == {
        ONE: [("Mass", 20, 20, 80, 60), ("Calc", 90, 50, 100, 70), ("Mass", 0, 0, 20, 10), ("Mass", 90, 30, 110, 70)]
    }
    short = {"image": "/data/local-files/?d=x%5Cp1_L_CC.png", "label": [{**box["value"], "original_width": 200}]}
    assert read(read_label_studio, written(source, [short])) == {ONE: [("Mass", 20, 20, 80, 60)]}
    other = region(box["value"], original_width=400)
    with pytest.raises(
        DatasetError, match=r"task 7, annotation 1, result 1: .* 400 columns, but the file has 100 and 200"
    ):
        read(read_label_studio, written(source, [task([other])]))


def test_label_studio_of_several_readers(pictures, tmp_path):
    def states(*tasks):
        path = written(tmp_path / "ls.json", list(tasks))
        return [
            (found.marks.state, [box.box.x0 for box in found.boxes])
            for found in read_label_studio(path, ImageFolder(pictures), ReadOptions())
        ]

    one, two = (region({"x": x, "y": 20, "width": 30, "height": 40, "rectanglelabels": ["Mass"]}) for x in (10, 20))
    assert states(task([one], [two])) == [(ReviewState.DISPUTED, [40])]  # the latest
    assert states(task([one], [one])) == [(ReviewState.ANNOTATED, [20])]
    truth = task([one], [two])
    truth["annotations"][0]["ground_truth"] = True
    assert states(truth) == [(ReviewState.DISPUTED, [20])]
    truth["annotations"][1]["was_cancelled"] = True
    assert states(truth) == [(ReviewState.ANNOTATED, [20])]
    assert states(task()) == [(ReviewState.UNANNOTATED, [])]


CVAT = """<annotations><version>1.1</version>
<image id="0" name="sub/p1_L_CC.png" width="200" height="100">
<box label="Mass" xtl="10.5" ytl="20" xbr="30.5" ybr="30"><attribute name="birads">4</attribute></box>
<box label="Mass" xtl="10" ytl="20" xbr="30" ybr="30" rotation="90"/>
<polygon label="Calc" points="1,2;9,2;5,8"/>
<ellipse label="Mass" cx="100" cy="50" rx="30" ry="10"/>
<mask label="Mass" rle="1,2" left="5" top="6" width="7" height="8"/>
<tag label="implant"/>
</image><image id="1" name="p2_R_MLO.png" width="200" height="100"/></annotations>"""


def test_cvat(read, tmp_path, pictures):
    path = written(tmp_path / "c/annotations.xml", CVAT)
    # 20 wide and 10 high about (20, 25): turned, 10 wide and 20 high
    assert read(read_cvat, path.parent) == {
        ONE: [("Mass", 10.5, 20, 30.5, 30), ("Mass", 15, 15, 25, 35), ("Calc", 1, 2, 9, 8), ("Mass", 70, 40, 130, 60),
              ("Mass", 5, 6, 12, 14)],
        TWO: [],
    }  # fmt: skip
    first = next(iter(read_cvat(path, ImageFolder(pictures), ReadOptions())))
    assert first.boxes[0].attributes == {"birads": "4"}
    assert first.attributes == {"implant": "yes"}
    written(path, CVAT.replace("<polygon", "<points").replace("</polygon", "</points"))
    first = next(iter(read_cvat(path, ImageFolder(pictures), ReadOptions())))
    assert [left.why for left in first.marks.passed_over] == ["<points>, which has no area"]
    assert first.marks.passed_over[0].where.endswith("shape 3")
    assert len(first.boxes) == 4
    written(path, CVAT[:300])
    with pytest.raises(DatasetError, match=r"annotations\.xml, line \d: this is not valid XML; was the file cut off"):
        read(read_cvat, path)
    written(path, "<annotations><track/></annotations>")
    with pytest.raises(DatasetError, match="format for videos"):
        read(read_cvat, path)


def test_labelme(read, tmp_path, pictures):
    shapes = [
        {"label": "Mass", "points": [[40, 60], [10, 20]], "shape_type": "rectangle", "flags": {}},
        {"label": "Calc", "points": [[1, 2], [9, 2], [5, 8]]},  # of an early version
        {"label": "Mass", "points": [[50, 50], [53, 54]], "shape_type": "circle"},  # radius 5
    ]
    content = {"imagePath": "..\\img\\p1_L_CC.png", "imageHeight": 100, "imageWidth": 200, "shapes": shapes}
    path = written(tmp_path / "l/p1.json", content)
    boxes = [("Mass", 10, 20, 40, 60), ("Calc", 1, 2, 9, 8), ("Mass", 45, 45, 55, 55)]
    assert read(read_labelme, tmp_path / "l") == {ONE: boxes}
    written(path, content | {"shapes": [{"label": "Mass", "points": [[4, 6]], "shape_type": "point"}]})
    (labelled,) = read_labelme(path, ImageFolder(pictures), ReadOptions())
    assert (labelled.boxes, labelled.marks.state) == ((), ReviewState.UNANNOTATED)
    assert labelled.marks.passed_over == (LeftMark("a point, which has no area", f"{path}, shape 1"),)


def test_detectron2_modes(read, tmp_path):
    modes = [
        (0, [10, 20, 40, 60]), (1, [10, 20, 30, 40]), (2, [0.1, 0.2, 0.3, 0.4]),
        ("BoxMode.XYWH_REL", [0.1, 0.2, 0.1, 0.1]), (4, [20, 25, 20, 10, 90]),
    ]  # fmt: skip
    annotations = [{"bbox": bbox, "bbox_mode": mode, "category_id": 1} for mode, bbox in modes]
    dicts = [
        {"file_name": "/elsewhere/p1_L_CC.png", "image_id": 5, "height": 100, "width": 200, "annotations": annotations}
    ]
    path = written(tmp_path / "d.json", dicts)
    assert read(read_detectron2, path, classes=("Mass", "Calc")) == {
        ONE: [("Calc", 10, 20, 40, 60), ("Calc", 10, 20, 40, 60), ("Calc", 20, 20, 60, 40), ("Calc", 20, 20, 40, 30),
              ("Calc", 15, 15, 25, 35)],
    }  # fmt: skip
    with pytest.raises(DatasetError, match="classes are not known"):
        read(read_detectron2, path)
    with pytest.raises(DatasetError, match="no class 1; the classes are 0 to 0"):
        read(read_detectron2, path, classes=("Mass",))
    annotations[0]["bbox_mode"] = 9
    with pytest.raises(DatasetError, match="bbox_mode 9 is none of"):
        read(read_detectron2, written(path, dicts), classes=("Mass", "Calc"))


def test_of_a_folder_only_images_are_images(read, pictures, tmp_path):
    """Also a DICOM or picture file without an ending; not what else lies there."""
    (pictures / "plain").write_bytes((pictures / ONE).read_bytes())
    for name in (".DS_Store", "LICENSE", "notes.txt"):
        (pictures / name).write_text("no picture")
    written(tmp_path / "y/plain.txt", "0 0.5 0.5 1 1")
    assert read(read_yolo, tmp_path / "y", classes=("Mass",)) == {ONE: [], TWO: [], "plain": [("Mass", 0, 0, 200, 100)]}
