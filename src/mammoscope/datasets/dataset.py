"""An annotated data set in memory: images on disk, boxes in pixels of each file, whose they are."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, overload

from mammoscope import __version__
from mammoscope.datasets.coco import CocoDocument, CocoImage, read_coco
from mammoscope.datasets.errors import DatasetError, PatientUnknownError
from mammoscope.datasets.files import check_upright, read_json, sha256_of_file, stored_size
from mammoscope.datasets.identity import FileNamePattern, ImageIdentity, laterality_of, view_of
from mammoscope.datasets.review_log import ReviewEvent, ReviewState, boxes_hash, latest_states, read_events, state_of
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

if TYPE_CHECKING:
    import pandas

ANNOTATIONS = "annotations.json"
HARD_NEGATIVES = "hard_negatives"
"""Key of an image's attributes: the boxes that its readers rejected, each with ``bbox``, ``label`` and ``score``."""
FORMAT = 1
"""Of a data set's folder, under ``mammoscope_format`` in the ``info`` of its annotations; a folder without one, as
Mammoscope 0.1.0 made it, is of format 1."""
FORMAT_KEY = "mammoscope_format"
"""The COCO file of a data set's folder."""
IMAGES = "images"
"""The folder of its images; ``file_name`` in the COCO file is relative to it."""
SPLITS = "splits.json"
"""How it was split, with a hash that shows later changes."""
FOLDS = "folds.json"
"""How it was divided into folds, with a hash that shows later changes."""

_ROUNDING_PX = 0.01  # COCO files round boxes to two decimals: that much over the edge is not an error to report


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One mammogram of a data set with what an expert marked on it.

    Parameters
    ----------
    id
        The COCO image id.
    path
        The image file.
    rows, columns
        Size of the file's image in pixels.
    boxes, labels
        The marked lesions and their category names, one label a box; both empty on an image without a lesion.
    crowds
        Regions marked ``iscrowd``: neither a lesion to be found nor a place where a finding is wrong.
    split
        ``train``, ``val``, ``test``, or ``None`` before splitting.
    fold
        Its fold of a cross-validation, from 1, or ``None``.
    review
        How far its annotation is.
    facts
        The COCO image entry as it stands.
    box_facts
        The COCO annotation entry of each box as it stands, or empty where there was no COCO file.
    """

    id: int
    path: Path
    rows: int
    columns: int
    patient: str
    laterality: Laterality | None = None
    view: View | None = None
    boxes: tuple[Box, ...] = ()
    labels: tuple[str, ...] = ()
    crowds: tuple[Box, ...] = ()
    split: str | None = None
    fold: int | None = None
    review: ReviewState = ReviewState.ANNOTATED
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    box_facts: tuple[Mapping[str, Any], ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.boxes) != len(self.labels):
            raise ValueError(f"image {self.id} has {len(self.boxes)} boxes and {len(self.labels)} labels")

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def hard_negatives(self) -> tuple[Box, ...]:
        """The boxes that its readers rejected, as the reading room exports them (see `HARD_NEGATIVES`).

        Raises
        ------
        DatasetError
            If the attribute holds something else.
        """
        stated = self.facts.get("attributes")
        given = stated.get(HARD_NEGATIVES, ()) if isinstance(stated, Mapping) else ()
        try:
            return tuple(Box.from_xywh(*map(float, one["bbox"])) for one in given)
        except (TypeError, ValueError, KeyError, AttributeError):
            raise DatasetError(
                f"image {self.id} ({self.name}): its attribute {HARD_NEGATIVES} is no list of boxes, each with a bbox"
                " of x, y, width and height: mend it or take it out."
            ) from None


def needs_pandas() -> Any:
    """The package pandas.

    Raises
    ------
    DatasetError
        If it is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise DatasetError(
            "a table needs pandas, which the core does not install: run pip install 'mammoscope[datasets]'."
        ) from None
    return pandas


@dataclass(frozen=True, slots=True, repr=False)
class AnnotatedDataset:
    """Annotated mammograms, ordered by image id.

    Parameters
    ----------
    name
        What reports call it: the folder's or the COCO file's name.
    category_ids
        COCO category id by label.
    clipped
        How many boxes reached over an image's edge and were cut there on reading.
    split_name
        The split it was narrowed to, or ``None`` for all images.
    set_aside
        How many unannotated images `annotated` left out.
    """

    name: str
    images: tuple[AnnotatedImage, ...]
    category_ids: Mapping[str, int]
    clipped: int = 0
    split_name: str | None = None
    set_aside: int = 0

    @classmethod
    def from_coco(
        cls,
        annotations: Path,
        images_dir: Path,
        *,
        patient_pattern: str | None = None,
        each_image_a_patient: bool = False,
    ) -> Self:
        """Any COCO detection set as it stands, nothing copied.

        Parameters
        ----------
        annotations
            The COCO file.
        images_dir
            Folder that its ``file_name`` entries are relative to.
        patient_pattern
            How file names hold the patient (see `FileNamePattern`); ``None`` for CBIS-DDSM's names.
        each_image_a_patient
            Where no patient is known, take the image for one. Intervals over patients are then intervals over images.

        Raises
        ------
        DatasetError
            If the file is not sound (see `read_coco`), an image is missing or of another size than the file says, or
            a box lies outside its image.
        PatientUnknownError
            If an image's patient is not known.
        """
        document = read_coco(annotations)
        pattern = FileNamePattern.compile(patient_pattern)

        def identify(image: CocoImage) -> ImageIdentity:
            try:
                return pattern.identify(image.file_name, image.facts)
            except PatientUnknownError:
                if not each_image_a_patient:
                    raise
            view, laterality = view_of(image.facts.get("view")), laterality_of(image.facts.get("laterality"))
            return ImageIdentity(image.file_name, laterality, view)

        loaded, clipped = [], 0
        for image in document.images:
            path = image_path(document, image, images_dir)
            rows, columns = checked_size(document, image, path)
            annotated, cut = _annotated(document, image, path, (rows, columns), identify(image))
            loaded.append(annotated)
            clipped += cut
        return cls(annotations.stem, _by_id(loaded), document.category_ids, clipped)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        return iter(self.images)

    @overload
    def __getitem__(self, index: int) -> AnnotatedImage: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[AnnotatedImage, ...]: ...
    def __getitem__(self, index: int | slice) -> AnnotatedImage | tuple[AnnotatedImage, ...]:
        return self.images[index]

    @property
    def n_boxes(self) -> int:
        """How many lesions are marked."""
        return sum(len(image.boxes) for image in self.images)

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients, sorted."""
        return tuple(sorted({image.patient for image in self.images}))

    @property
    def labels(self) -> tuple[str, ...]:
        """The category names, by category id."""
        return tuple(sorted(self.category_ids, key=lambda label: self.category_ids[label]))

    def split(self, name: str) -> Self:
        """Only the images of that split: ``train``, ``val`` or ``test``.

        Raises
        ------
        DatasetError
            If it has none.
        """
        return self.narrowed(name)

    def to_pandas(self) -> "pandas.DataFrame":
        """A row an image, indexed by image id; needs pandas.

        Returns
        -------
        DataFrame
            ``file_name``, ``path``, ``patient``, ``laterality``, ``view``, ``rows``, ``columns`` (pixels), ``split``,
            ``fold``, ``n_boxes``, ``boxes`` (x0, y0, x1, y1 in stored pixels) and ``labels``.

        Raises
        ------
        DatasetError
            If pandas is not installed.
        """
        rows = [
            {
                "image_id": image.id,
                "file_name": str(image.facts.get("file_name", image.name)),
                "path": str(image.path),
                "patient": image.patient,
                "laterality": image.laterality and str(image.laterality),
                "view": image.view and str(image.view),
                "rows": image.rows,
                "columns": image.columns,
                "split": image.split,
                "fold": image.fold,
                "n_boxes": len(image.boxes),
                "boxes": [box.as_tuple() for box in image.boxes],
                "labels": list(image.labels),
            }
            for image in self.images
        ]
        return needs_pandas().DataFrame(rows).set_index("image_id")

    def __repr__(self) -> str:
        counts = Counter(image.split for image in self.images if image.split)
        splits = ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
        split = f", split {self.split_name}" if self.split_name else ""
        return (
            f"<AnnotatedDataset {self.name}{split}: {len(self)} images of {len(self.patients)} patients, "
            f"{self.n_boxes} boxes ({', '.join(self.labels)}){f'; splits: {splits}' if splits and not split else ''}>"
        )

    def narrowed(self, split: str) -> Self:
        """Only the images of that split.

        Raises
        ------
        DatasetError
            If it has none.
        """
        images = tuple(image for image in self.images if image.split == split)
        if not images:
            there = sorted({image.split for image in self.images if image.split})
            hint = f"it has {', '.join(there)}" if there else "split it with 'mammoscope dataset split' first"
            raise DatasetError(f"data set {self.name} has no images in the split '{split}': {hint}.")
        return replace(self, images=images, split_name=split)

    def annotated(self) -> Self:
        """Without the images that are unannotated: that they have no box says nothing, or a lesion of theirs has none.

        Raises
        ------
        DatasetError
            If no image is left.
        """
        images = tuple(image for image in self.images if image.review is not ReviewState.UNANNOTATED)
        if not images and self.images:
            raise DatasetError(
                f"all {len(self.images)} images of data set {self.name} are unannotated: nobody said what they show. "
                "Annotate some, say with 'mammoscope dataset review set' which were looked at, or count them as images "
                "without a lesion on purpose (--count-unannotated; data.count_unannotated of a recipe)."
            )
        return replace(self, images=images, set_aside=self.set_aside + len(self.images) - len(images))

    def set_aside_told(self) -> str | None:
        """What a reader of figures has to know of the images that `annotated` left out; ``None`` where none was."""
        if not self.set_aside:
            return None
        return (
            f"{self.set_aside} of {self.set_aside + len(self.images)} images are unannotated and were set aside: that "
            "they have no box says nothing."
        )

    def fingerprint(self) -> str:
        """SHA-256 over image ids, patients, splits, the bytes of every image file, boxes and labels.

        Two data sets with the same fingerprint train and evaluate alike; where they lie on disk does not matter.
        """
        digest = hashlib.sha256()
        for image in self.images:
            content = [
                image.id, image.patient, image.split, image.rows, image.columns, sha256_of_file(image.path),
                [box.as_tuple() for box in image.boxes], image.labels, [box.as_tuple() for box in image.crowds],
                *([[box.as_tuple() for box in rejected]] if (rejected := image.hard_negatives) else []),
            ]  # fmt: skip
            digest.update(json.dumps(content).encode())
            digest.update(b"\n")
        return digest.hexdigest()


def load_dataset(folder: Path, split: str | None = None, *, check_folds: bool = True) -> AnnotatedDataset:
    """A data set from its folder, as `import_coco` and `split_dataset` left it.

    Parameters
    ----------
    folder
        Holds ``annotations.json`` and ``images/``.
    split
        ``train``, ``val`` or ``test`` for the images of that split only; ``None`` for all.
    check_folds
        Whether folds that cannot be used are an error; not where they are about to be replaced.

    Raises
    ------
    DatasetError
        If it is not a data set's folder, an image is missing, the split is not there, a patient is in two splits or
        folds, or these were changed since they were made.
    """
    dataset = read_folder(Path(folder))
    _check_splits(Path(folder), dataset)
    if check_folds:
        _check_folds(Path(folder), dataset)
    return dataset if split is None else dataset.narrowed(split)


def _check_format(folder: Path, info: object) -> None:
    made = info.get(FORMAT_KEY, FORMAT) if isinstance(info, dict) else FORMAT
    if not isinstance(made, int) or isinstance(made, bool) or not 1 <= made <= FORMAT:
        raise DatasetError(
            f"{folder} is a data set of format {made}, and this Mammoscope {__version__} reads format {FORMAT}: "
            "install the version that made it, or a newer one."
        )


def read_folder(folder: Path) -> AnnotatedDataset:
    """As `load_dataset`, all splits, and these unchecked."""
    path = folder / ANNOTATIONS
    if not path.is_file():
        raise DatasetError(
            f"{folder} is not a data set's folder: it has no {ANNOTATIONS}; make one with 'mammoscope dataset import'."
        )
    document = read_coco(path)
    _check_format(folder, document.facts.get("info"))
    reviewed = latest_states(read_events(folder))
    images = []
    for image in document.images:
        file = image_path(document, image, folder / IMAGES)
        if image.rows is None or image.columns is None:
            raise DatasetError(f"{path}: image {image.id} has no height and width.")
        identity = ImageIdentity(
            _patient_of(path, image),
            laterality_of(image.facts.get("laterality")),
            view_of(image.facts.get("view")),
        )
        annotated, _ = _annotated(document, image, file, (image.rows, image.columns), identity)
        images.append(_with_review(annotated, reviewed.get((image.id, image.file_name))))
    return AnnotatedDataset(folder.resolve().name, _by_id(images), document.category_ids)


def _with_review(image: AnnotatedImage, event: ReviewEvent | None) -> AnnotatedImage:
    stated = image.facts.get("review")
    if event is None and stated is None:
        return image
    return replace(image, review=state_of(stated, event, boxes_hash(image.boxes, image.labels, image.crowds)))


def _patient_of(path: Path, image: CocoImage) -> str:
    stated = image.facts.get("patient_id")
    patient = "" if stated is None else str(stated).strip()
    if not patient:
        raise DatasetError(f"{path}: image {image.id} has no patient_id.")
    return patient


class Locked(Protocol):
    """What splits and folds lock of an image."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def patient(self) -> str | None: ...  # noqa: D102
    @property
    def split(self) -> str | None: ...  # noqa: D102
    @property
    def fold(self) -> int | None: ...  # noqa: D102
    @property
    def facts(self) -> Mapping[str, Any]: ...  # noqa: D102


def split_hash(images: Iterable[Locked]) -> str:
    """SHA-256 over which image (by id and ``file_name``), of which patient, is in which split."""
    locked = sorted((image.id, str(image.facts.get("file_name")), image.patient, image.split) for image in images)
    return hashlib.sha256(json.dumps(locked).encode()).hexdigest()


def fold_hash(images: Iterable[Locked]) -> str:
    """SHA-256 over which image (by id and ``file_name``), of which patient, is in which fold."""
    locked = sorted((image.id, str(image.facts.get("file_name")), image.patient, image.fold or 0) for image in images)
    return hashlib.sha256(json.dumps(locked).encode()).hexdigest()


def image_path(document: CocoDocument, image: CocoImage, images_dir: Path) -> Path:
    """Where an image's file lies; `DatasetError` when it is not there."""
    path = Path(images_dir) / image.file_name
    if not path.is_file():
        raise DatasetError(f"{document.path}: the file of image {image.id}, {image.file_name}, is not in {images_dir}.")
    return path


def checked_size(document: CocoDocument, image: CocoImage, path: Path) -> tuple[int, int]:
    """(rows, columns) of an image, its file's header against the COCO file.

    A file whose header cannot be read keeps the size that the COCO file says: whoever reads its pixels will report it.
    """
    stated = None if image.rows is None or image.columns is None else (image.rows, image.columns)
    check_upright(path, f"{document.path}, image {image.id}")
    stored = stored_size(path)
    if stored is None and stated is None:
        raise DatasetError(f"{document.path}: the size of image {image.id}, {image.file_name}, is not known.")
    if stored is not None and stated is not None and stored != stated:
        raise DatasetError(
            f"{document.path}: image {image.id}, {image.file_name}, has {stated[0]} rows and {stated[1]} columns there "
            f"but {stored[0]} and {stored[1]} in its file, so its boxes may not fit: correct the entry."
        )
    return stored or stated or (0, 0)


def clipped_box(document: CocoDocument, annotation_id: int, box: Box, rows: int, columns: int) -> tuple[Box, bool]:
    """The box inside the image, and whether that cut off more than rounding; `DatasetError` if nothing is inside."""
    inside = box.clipped(rows, columns)
    if inside is None:
        raise DatasetError(
            f"{document.path}: the box of annotation {annotation_id} lies outside its image of {rows} rows and "
            f"{columns} columns: correct or remove it."
        )
    over = max(abs(a - b) for a, b in zip(box.as_tuple(), inside.as_tuple(), strict=True))
    return inside, over > _ROUNDING_PX


def _annotated(
    document: CocoDocument, image: CocoImage, path: Path, size: tuple[int, int], identity: ImageIdentity
) -> tuple[AnnotatedImage, int]:
    boxes: list[Box] = []
    labels: list[str] = []
    facts: list[Mapping[str, Any]] = []
    crowds: list[Box] = []
    clipped = 0
    for annotation in image.annotations:
        box, cut = clipped_box(document, annotation.id, annotation.box, *size)
        clipped += cut
        if annotation.crowd:
            crowds.append(box)
        else:
            boxes.append(box)
            labels.append(annotation.label)
            facts.append(annotation.facts)
    split, fold = image.facts.get("split"), image.facts.get("fold")
    annotated = AnnotatedImage(
        id=image.id, path=path, rows=size[0], columns=size[1], patient=identity.patient,
        laterality=identity.laterality, view=identity.view, boxes=tuple(boxes), labels=tuple(labels),
        crowds=tuple(crowds), split=split if isinstance(split, str) and split else None,
        fold=fold if isinstance(fold, int) else None, facts=image.facts, box_facts=tuple(facts),
    )  # fmt: skip
    return annotated, clipped


def _by_id(images: list[AnnotatedImage]) -> tuple[AnnotatedImage, ...]:
    return tuple(sorted(images, key=lambda image: image.id))


def _check_splits(folder: Path, dataset: AnnotatedDataset) -> None:
    again = "divide it again with 'mammoscope dataset split --force'"
    _check_patients(folder, ((image, image.split) for image in dataset), "splits", again)
    _check_lock(folder, SPLITS, split_hash(dataset), "splits", f"{again}, also if an earlier version divided it")


def _check_folds(folder: Path, dataset: AnnotatedDataset) -> None:
    again = "divide it again with 'mammoscope dataset split --folds N --force'"
    _check_patients(folder, ((image, image.fold) for image in dataset), "folds", again)
    _check_lock(folder, FOLDS, fold_hash(dataset), "folds", again)


def _check_patients(
    folder: Path, parts: Iterable[tuple[AnnotatedImage, str | int | None]], kind: str, again: str
) -> None:
    part_of: dict[str, str | int | None] = {}
    for image, part in parts:
        if part_of.setdefault(image.patient, part) != part:
            raise DatasetError(f"data set {folder} has one patient in two {kind} (see image {image.id}): {again}.")


def _check_lock(folder: Path, lock: str, found: str, kind: str, again: str) -> None:
    if not (folder / lock).is_file():
        return
    record = read_json(folder / lock)
    if not isinstance(record, dict) or record.get("hash") != found:
        raise DatasetError(
            f"the images, patients or {kind} in {folder / ANNOTATIONS} are not those that {lock} locked: restore the "
            f"file, or {again}."
        )
