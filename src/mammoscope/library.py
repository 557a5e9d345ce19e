"""The functions and classes of ``import mammoscope`` that no room has by itself: reading, drawing, detecting."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from mammoscope import imaging, inference
from mammoscope.datasets import AnnotatedDataset
from mammoscope.datasets import load_dataset as _load_dataset
from mammoscope.findings import Box, Reading
from mammoscope.imaging import Mammogram, ReducedMammogram
from mammoscope.results import draw_reading


def read_mammogram(path: str | Path) -> Mammogram:
    """Read one mammogram: DICOM, PNG, JPEG, TIFF or PGM.

    Returns
    -------
    Mammogram
        ``pixels`` of shape (rows, columns), ``uint16``, 0 black and 65535 white, polarity turned and window applied;
        nothing is flipped or cropped.

    Raises
    ------
    MammogramError
        If the file cannot be read as a mammogram; the message says why.

    Examples
    --------
    >>> image = read_mammogram("case.dcm")
    >>> image.laterality, image.view, image.pixels.dtype
    (<Laterality.LEFT: 'L'>, <View.CC: 'CC'>, dtype('uint16'))
    """
    return imaging.read_mammogram(Path(path))


class Detector(inference.Detector):
    """Finds masses in mammograms, on the CPU and without torch. Research use only; not a medical device.

    Parameters
    ----------
    bundle
        A file that ``mammoscope export`` made; ``None`` for the model that comes with Mammoscope.
    threads
        How many processors it may use; ``None`` for all.

    Raises
    ------
    BundleError
        If the file is no bundle that this version runs.

    Examples
    --------
    >>> detector = Detector(threads=1)
    >>> detector
    <Detector mammoscope-mass 0.1.0+701a4472.views-1421e6, threshold 0.339>
    >>> reading = detector.read(read_mammogram("case.dcm"))
    >>> reading.boxes.shape == (len(reading.scores), 4)
    True
    """

    def __init__(self, bundle: str | Path | None = None, *, threads: int | None = None) -> None:
        super().__init__(None if bundle is None else Path(bundle), threads=threads)

    def read(
        self,
        mammogram: Mammogram | ReducedMammogram,
        threshold: float | None = None,
        *,
        keep_candidates: bool = False,
    ) -> Reading:
        """Read a mammogram by itself.

        Parameters
        ----------
        threshold
            Lowest score that is reported, from 0 to 1; ``None`` for the model's operating point.
        keep_candidates
            Whether the reading of a CC or MLO view keeps all that was proposed, for ``two_views.read_together``.

        Returns
        -------
        Reading
            ``boxes`` of shape (n, 4), in pixels of the mammogram, and ``scores`` of shape (n,). A notebook shows it as
            a picture.
        """
        reading = super().read(mammogram, threshold, keep_candidates=keep_candidates)
        return replace(reading, picture=_Picture(mammogram)) if isinstance(mammogram, Mammogram) else reading

    def read_study(self, mammograms: Sequence[Mammogram], threshold: float | None = None) -> list[Reading]:
        """Read the mammograms of one examination: the CC and the MLO view of a breast are scored by each other.

        A view whose other is not there is read by itself, and so are all with a model that knows nothing of two views.

        Parameters
        ----------
        mammograms
            Of one patient and one examination; their laterality and view say which belong together.
        threshold
            As of `read`.

        Returns
        -------
        list of Reading
            One for each, in their order.

        Examples
        --------
        >>> readings = Detector(threads=1).read_study([read_mammogram("case.dcm")])
        >>> readings[0].view
        <View.CC: 'CC'>
        """
        if self.two_views is None:
            return [self.read(mammogram, threshold) for mammogram in mammograms]
        alone = [self.read(mammogram, threshold, keep_candidates=True) for mammogram in mammograms]
        return self.two_views.read_together(alone)

    def __repr__(self) -> str:
        return f"<Detector {self.algorithm.name} {self.algorithm.version}, threshold {self.threshold:.3g}>"


@dataclass(frozen=True)
class _Picture:
    """Draws a reading of one mammogram for a notebook."""

    mammogram: Mammogram

    def __call__(self, reading: Reading) -> bytes:
        buffer = io.BytesIO()
        draw(self.mammogram, reading, max_side=800).save(buffer, "PNG")
        return buffer.getvalue()


def draw(
    mammogram: Mammogram,
    reading: Reading,
    truth: list[Box] | tuple[Box, ...] = (),
    max_side: int | None = 1600,
) -> Image.Image:
    """The mammogram with the findings in yellow with their scores, and the truth in green.

    Parameters
    ----------
    truth
        Boxes in pixels of the mammogram.
    max_side
        Longer side of the picture in pixels; ``None`` for the mammogram's own size.

    Returns
    -------
    PIL.Image.Image
        In RGB.

    Examples
    --------
    >>> image = read_mammogram("case.dcm")
    >>> draw(image, Detector(threads=1).read(image), max_side=400).save("case.png")
    """
    return Image.fromarray(draw_reading(mammogram, reading, truth, max_side))


def load_dataset(folder: str | Path, split: str | None = None) -> AnnotatedDataset:
    """A data set from its folder, as ``mammoscope dataset import`` made it.

    Parameters
    ----------
    split
        ``train``, ``val`` or ``test`` for that split only.

    Raises
    ------
    DatasetError
        If it is not a data set's folder, an image is missing, or a patient is in two splits.

    Examples
    --------
    >>> data = load_dataset("mine")
    >>> data
    <AnnotatedDataset mine: 4 images of 1 patients, 2 boxes (Mass)>
    >>> data.to_pandas().columns[:3].tolist()
    ['file_name', 'path', 'patient']
    """
    return _load_dataset(Path(folder), split)
