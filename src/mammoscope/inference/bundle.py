"""The bundle: one ONNX file whose metadata holds everything that running it needs."""

import importlib.resources
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mammoscope.errors import MammoscopeError, what_is_wrong
from mammoscope.findings import Algorithm
from mammoscope.imaging import Crop, Preprocessing, PresentationIntent
from mammoscope.inference.calibration import Calibration
from mammoscope.inference.data_roles import KnownData
from mammoscope.inference.two_views import TwoViews

if TYPE_CHECKING:  # at run time only where a bundle is opened: what merely talks of bundles stays small
    import onnxruntime

METADATA_KEY = "mammoscope"
"""Under it the metadata lies in the ONNX file's metadata properties, as JSON."""

FORMAT = 3
"""Of the metadata that this version writes. It reads format 2 too, which knew nothing of two views of a breast, and
format 1, in which preprocessing was one English sentence."""

_FORMAT_1_PIXELS = "breast percentiles 1 to 99.8 as 0 to 1, region fills the input"


class BundleError(MammoscopeError):
    """A file that is no bundle, or one that this version cannot run."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BundleInput(_Part):
    """The network's input and how a mammogram's pixels get there, as data that `mammoscope.imaging.prepare` reads.

    Parameters
    ----------
    rows, columns, crop, percentiles, aspect
        As of `mammoscope.imaging.Preprocessing`.
    intents
        What images must be for, if they say it; a bundle that does not say reads those for presentation and for
        processing.
    """

    rows: int
    columns: int
    crop: Crop
    percentiles: tuple[float, float] = Preprocessing(32, 32).percentiles
    aspect: tuple[float, float] = Preprocessing(32, 32).aspect
    intents: tuple[PresentationIntent, ...] = Field(default=tuple(PresentationIntent), min_length=1)

    @model_validator(mode="after")
    def _is_a_preprocessing(self) -> Self:
        _ = self.preprocessing
        return self

    @property
    def preprocessing(self) -> Preprocessing:
        """The same in imaging's words."""
        return Preprocessing(self.rows, self.columns, self.crop, self.percentiles, self.aspect)

    @property
    def pixels(self) -> str:
        """What becomes of grey values, in words."""
        low, high = (f"{percentile:g}" for percentile in self.percentiles)
        return f"breast percentiles {low} to {high} as 0 to 1, region fills the input"


class OperatingPoint(_Part):
    """A threshold and why it is that: findings with a score of at least ``threshold`` are reported."""

    name: str
    threshold: float = Field(ge=0, le=1)
    rule: str
    chosen_on: str


class TrainingData(_Part):
    """A collection that the model learned from."""

    name: str
    licence: str
    images: int = Field(ge=0)
    patients: int = Field(ge=0)
    fingerprint: str


class Figures(_Part):
    """What the model reached on one split; ``values`` by name, ``intervals`` 95 % by bootstrap over patients."""

    dataset: str
    split: str | None
    iou: float
    threshold_rule: str
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]] = {}


class BundleMetadata(_Part):
    """Everything a bundle says about itself.

    Parameters
    ----------
    operating_points
        The first is the default.
    calibration
        What makes probabilities of the network's scores; thresholds are on their scale. ``None``: scores as they are.
    two_views
        How the two views of a breast are read together; ``None``: each view by itself.
    recipe
        How the network was trained, without places on the machine that did it; empty where that is not known.
    known_data
        Hashes of the patients that it learnt from, was chosen on and was calibrated on; empty where that is not known.
    """

    format: Literal[3] = 3
    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    input: BundleInput
    classes: tuple[str, ...] = Field(min_length=1)
    operating_points: tuple[OperatingPoint, ...] = Field(min_length=1)
    training_data: tuple[TrainingData, ...]
    figures: tuple[Figures, ...] = ()
    calibration: Calibration | None = None
    two_views: TwoViews | None = None
    recipe: dict[str, Any] = {}
    known_data: tuple[KnownData, ...] = ()
    made_with: str
    notice: str = "Research use only; not a medical device."

    @model_validator(mode="before")
    @classmethod
    def _from_earlier_formats(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("format") == 2 and "two_views" not in data:
            return data | {"format": FORMAT}
        if not isinstance(data, dict) or data.get("format") != 1 or not isinstance(data.get("input"), dict):
            return data
        given = dict(data["input"])
        if given.pop("pixels", _FORMAT_1_PIXELS) != _FORMAT_1_PIXELS:
            raise ValueError("the input's pixels are of a convention that nobody has written")
        return data | {"format": FORMAT, "input": given}

    @model_validator(mode="after")
    def _points_have_names_of_their_own(self) -> Self:
        names = [point.name for point in self.operating_points]
        if len(set(names)) < len(names):
            raise ValueError("two operating points have the same name")
        return self


def shipped_bundle() -> Path:
    """The bundle that comes with Mammoscope and is used where no other is named."""
    return Path(str(importlib.resources.files("mammoscope.inference"))) / "models" / "default.onnx"


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """An opened bundle: its metadata and the network ready to run.

    The network takes ``image`` (1, 1, rows, columns) and gives ``boxes`` (n, 4) in input pixels, ``scores`` (n,) and
    ``labels`` (n,), class indices from 0.
    """

    path: Path
    metadata: BundleMetadata
    session: "onnxruntime.InferenceSession"

    @classmethod
    def open(cls, path: Path | None = None, *, threads: int | None = None) -> Self:
        """Open a bundle, or the shipped one.

        Parameters
        ----------
        threads
            How many the network may use; ``None`` for one a core, or one alone where the cores are busy already:
            threads that wait for each other then take longer than one.

        Raises
        ------
        BundleError
            If the file is not there, is no bundle, or was made for another version.
        """
        path = path or shipped_bundle()
        if not path.is_file():
            raise BundleError(f"there is no model bundle {path}: give the path of a file made by 'mammoscope export'")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # A thread that waits for another sleeps: one that spins costs twice the time as soon as anybody else works.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        threads = threads or (1 if _cores_are_busy() else None)
        if threads:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no public base of its errors
            raise BundleError(
                f"{path} is not a model that can be run: give the path of a file made by 'mammoscope export'"
            ) from error
        return cls(path, _metadata(path, session), session)

    @property
    def algorithm(self) -> Algorithm:
        """Name and version, as result objects state them."""
        return Algorithm(self.metadata.name, self.metadata.version)

    def run(
        self, pixels: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.integer[Any]]]:
        """Boxes (n, 4) in input pixels, scores (n,) and class indices (n,) for one picture of the network's input.

        Parameters
        ----------
        pixels
            Shape (rows, columns), from 0 to 1 (`mammoscope.imaging.PreparedImage`).
        """
        boxes, scores, labels = self.session.run(
            ["boxes", "scores", "labels"], {"image": pixels[np.newaxis, np.newaxis]}
        )
        return boxes, scores, labels

    def operating_point(self, name: str | None = None) -> OperatingPoint:
        """The operating point of that name, or the default.

        Raises
        ------
        BundleError
            If the bundle has none of that name.
        """
        points = {point.name: point for point in self.metadata.operating_points}
        if name is None:
            return self.metadata.operating_points[0]
        if name not in points:
            raise BundleError(f"{self.path} has no operating point '{name}': it has {', '.join(points)}")
        return points[name]


def rewrite_metadata(bundle: Path, metadata: BundleMetadata, out: Path) -> None:
    """The same network with other metadata; needs the package onnx, which comes with the extra ``train``.

    Raises
    ------
    BundleError
        If the file cannot be written.
    """
    import onnx

    model = onnx.load(str(bundle))
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    model.doc_string = f"{metadata.name} {metadata.version}. {metadata.notice}"
    draft = out.with_name(f"{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(model.SerializeToString())
        draft.replace(out)
    except OSError as error:
        raise BundleError(f"the bundle {out} cannot be written: {error.strerror}; choose another --out") from error
    finally:
        if draft.parent.is_dir():
            draft.unlink(missing_ok=True)


def _cores_are_busy() -> bool:
    """Whether as many processes ran in the last minute as there are cores."""
    try:
        return os.getloadavg()[0] >= (os.cpu_count() or 1)
    except OSError:
        return False


def _metadata(path: Path, session: "onnxruntime.InferenceSession") -> BundleMetadata:
    stored = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if stored is None:
        raise BundleError(f"{path} is an ONNX model but no Mammoscope bundle: make one with 'mammoscope export'")
    if (later := _later_format(stored)) is not None:
        raise BundleError(
            f"{path} was made by a later version of Mammoscope (bundle format {later}; this one reads up to {FORMAT}): "
            "use that version, or export the model again with this one"
        )
    try:
        metadata = BundleMetadata.model_validate_json(stored)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "as a whole"
        raise BundleError(
            f"the metadata of {path} is not one this version understands ({field}: {what_is_wrong(first)}): export the "
            "model again, or use the version of Mammoscope that made it"
        ) from error
    expected = [1, 1, metadata.input.rows, metadata.input.columns]
    if session.get_inputs()[0].shape != expected:
        raise BundleError(
            f"{path} contradicts itself: its network does not take the {metadata.input.rows} x "
            f"{metadata.input.columns} pixels that its metadata states; export the model again"
        )
    return metadata


def _later_format(stored: str) -> int | None:
    """The format of metadata that a later version wrote, whatever else it holds."""
    try:
        number = json.loads(stored)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return number if isinstance(number, int) and number > FORMAT else None
