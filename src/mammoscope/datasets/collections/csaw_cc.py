"""CSAW-CC: DICOM files of a Swedish screening cohort, one table with a row an image, masks of tumours.

A mask is a picture called as its image, with ``_mask`` after it. Women without cancer are controls (``x_case`` 0);
of a woman with cancer, ``x_cancer_laterality`` says the breast and ``rad_timing`` whether the examination is the one
that detected it (1), the one before an interval cancer (2) or an earlier one (3).
"""

from collections.abc import Iterable
from pathlib import Path

from mammoscope.datasets.collections.base import Collected
from mammoscope.datasets.collections.scan import Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Shown, Source, scale_between, spacing_of
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.identity import laterality_of, view_of
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, LeftMark, Silence
from mammoscope.datasets.masks import binary_file, parts_of
from mammoscope.datasets.records import ImportedImage
from mammoscope.findings import Box

CANCER = "Cancer"
_COLUMNS = (
    "anon_patientid", "exam_year", "x_case", "x_cancer_laterality", "rad_timing", "imagelaterality", "viewposition",
    "anon_filename",
)  # fmt: skip
_OPTIONAL = ("x_age", "x_type", "x_lymphnode_met", "rad_recall", "rad_r1", "rad_r2", "dicom_manufacturer",
             "libra_percentdensity")  # fmt: skip
_SAID = {
    "x_lymphnode_met": "lymph_node_metastasis",
    "rad_recall": "recalled",
    "libra_percentdensity": "percent_density",
}
_CODED = {
    "x_age": ("age_band", {"1": "40-55", "2": "over 55"}),
    "x_type": ("type", {"1": "in situ", "2": "invasive, up to 15 mm", "3": "invasive, over 15 mm"}),
    "rad_timing": ("timing", {"1": "screen-detected", "2": "interval cancer", "3": "before"}),
}
"""What the codebook calls the numbers of a column: an age of "1" is a band of ages, no year."""
_MASK = "_mask"


def _recognise(inventory: Inventory) -> bool:
    return inventory.recognises(_COLUMNS)


def _read(source: Source) -> Collected:
    rows = source.inventory.table(_COLUMNS, "table of CSAW-CC", _OPTIONAL).rows
    masks = source.inventory.by_stem(path for path in source.inventory.pictures if path.stem.casefold().endswith(_MASK))
    missing = Missing(source, named=len(rows))
    images = []
    for row in rows:
        name = Path(row.needed("anon_filename").replace("\\", "/")).stem.casefold()
        shown = source.shown.get(name)
        if shown is None:
            missing.add(row, f"the image {row['anon_filename']}")
        else:
            images.append(_image(row, shown, shown.size(source), masks.get(f"{name}{_MASK}")))
    return Collected(tuple(images), (*missing.settle(), *_told(images)))


def _image(row: Row, shown: Shown, size: tuple[int, int], mask: Path | None) -> ImportedImage:
    header = shown.header
    sick = row["x_case"].removesuffix(".0") == "1" and (
        laterality_of(row["x_cancer_laterality"]) is laterality_of(row["imagelaterality"])
    )
    return ImportedImage(
        path=shown.path,
        rows=size[0],
        columns=size[1],
        patient=row.needed("anon_patientid"),
        marks=_marks(row, size, mask, sick=sick),
        study=f"{row['anon_patientid']}_{row['exam_year']}",
        laterality=laterality_of(row["imagelaterality"]),
        view=view_of(row["viewposition"]),
        scanner=(header.scanner if header else None) or row.get("dicom_manufacturer") or None,
        spacing_mm=spacing_of(header) if header else None,
        pathology="malignant" if sick else None,
        attributes=_attributes(row),
        origin={
            **({"sop_instance_uid": header.sop_instance} if header else {}),
            "rows": [f"{row.path.name}:{row.line}"],
        },
    )


def _attributes(row: Row) -> dict[str, str]:
    said = {name: value.removesuffix(".0") for name, value in row.said(_SAID).items()}
    for column, (name, words) in _CODED.items():
        if code := row.said({column: name}).get(name, "").removesuffix(".0"):
            said[name] = words.get(code, code)
    return said


def _marks(row: Row, size: tuple[int, int], mask: Path | None, *, sick: bool) -> ImageMarks:
    """Parts of the mask; a tumour that an examination detected and no mask shows has no place."""
    where = f"{row.path.name}:{row.line}"
    timing = row["rad_timing"].removesuffix(".0")
    healthy = row["x_case"].removesuffix(".0") == "0" and row.get("rad_recall").removesuffix(".0") == "0"
    silence = Silence.NEGATIVE if healthy else Silence.UNANNOTATED
    if mask is None:
        lacking = (LeftMark("a cancer without a mask", where),) if sick and timing in ("1", "2") else ()
        return ImageMarks((), silence, not_outlined=lacking)
    inside = binary_file(mask)
    scale = None if inside is None else scale_between(inside.shape, size)
    if inside is None or scale is None:
        return ImageMarks((), silence, not_outlined=(LeftMark("a mask that is none of its image", mask.name),))
    across, down = scale
    attributes = {"pathology": "malignant"}
    boxes = (Box(part.x0 * across, part.y0 * down, part.x1 * across, part.y1 * down) for part in parts_of(inside))
    return ImageMarks(tuple(ImportedBox(box, CANCER, attributes) for box in boxes), silence)


def _told(images: list[ImportedImage]) -> Iterable[str]:
    if lacking := [image.marks.not_outlined[0] for image in images if image.marks.not_outlined]:
        yield (
            f"{len(lacking)} images of a breast with cancer have no mask of their own: they are marked 'unannotated'; "
            f"the first is in {lacking[0].where}."
        )


CSAW_CC = Collection(
    key="csaw-cc",
    title="CSAW-CC",
    licence="by agreement with Karolinska Institutet, for research",
    citation=(
        "K. Dembrower, P. Lindholm, F. Strand: A multi-million mammography image dataset and population-based "
        "screening cohort for the training and evaluation of deep neural networks: the cohort of screen-aged women "
        "(CSAW). "
        "Journal of Digital Imaging 33:408-413, 2020; data: doi 10.5878/45vm-t798."
    ),
    url="https://doi.org/10.5878/45vm-t798",
    labels=(CANCER,),
    recognise=_recognise,
    read=_read,
    names=r"(?<!\d)\d{5}_\d{8}_[LR]_(?:CC|MLO)_\d",
)
