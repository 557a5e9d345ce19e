"""What decoding JPEG 2000 at a lower resolution costs in accuracy and spares in time.

    python benchmarks/resolution.py --dataset data/mine [--split val] [--factor 2] [--images 0]

Each image of a data set is compressed (lossless, as an archive has it) and read twice: whole, and at the resolution
with sides that many times smaller, whatever the reader itself would choose. Printed are AP50 (IoU 0.5) of both, how far
boxes moved in pixels of the network's input, and seconds of decoding and display on one core.
"""

import argparse
import dataclasses
import io
import time
from pathlib import Path

import cv2
import numpy as np
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

import mammoscope as ms
from mammoscope.imaging import Mammogram, Placement
from mammoscope.imaging.dicom import DicomFile
from mammoscope.inference import Detector
from mammoscope.phantom import screening_study


def compressed(image: Mammogram, folder: Path) -> DicomFile:
    """The picture's greys as 12 bits in a JPEG 2000 DICOM file."""
    dataset = screening_study(1, rows=128, columns=96).images[0].dataset
    dataset.Rows, dataset.Columns = image.pixels.shape
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.PixelData = (image.pixels >> 4).astype("<u2").tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    dataset = dcmread(buffer)
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    path = folder / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return DicomFile.open(path, image.name)


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--factor", type=int, default=2)
    parser.add_argument("--images", type=int, default=0, help="the first so many; 0 for all")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    data = ms.load_dataset(given.dataset).split(given.split)
    if given.images:
        kept = {image.id for image in list(data)[: given.images]}
        data = dataclasses.replace(data, images=tuple(image for image in data if image.id in kept))
    detector = Detector(threads=1)
    readings: tuple[dict, dict] = ({}, {})
    seconds, moved, lost = [0.0, 0.0], [], 0
    scratch = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path()
    for image in data:
        file = compressed(ms.read_mammogram(image.path), scratch)
        started = time.process_time()
        whole = file.mammogram()
        seconds[0] += time.process_time() - started
        started = time.process_time()
        found = file.reduced(max(whole.pixels.shape) // given.factor)
        seconds[1] += time.process_time() - started
        assert found is not None, image.path.name
        assert found[1] == given.factor, image.path.name
        offset = (given.factor - 1) / 2
        place = Placement(-offset, -offset, given.factor, given.factor)
        candidates = [detector.candidates(whole), detector.candidates(Mammogram(found[0], whole.name))]
        boxes = [[(c.box.as_tuple(), c.score) for c in of] for of in candidates]
        boxes[1] = [(tuple(place.to_file(np.array([box]))[0]), score) for box, score in boxes[1]]
        for of, into in zip(boxes, readings, strict=True):
            into[image.path.name] = np.array([[*box, score] for box, score in of]).reshape(-1, 5)
        pixel = np.array([whole.columns / detector.preprocessing.columns, whole.rows / detector.preprocessing.rows] * 2)
        for box, score in boxes[0]:
            if score >= detector.threshold:
                near = [np.max(np.abs(np.subtract(box, other)) / pixel) for other, _ in boxes[1]]
                moved.append(min(near, default=np.inf))
                lost += moved[-1] > 5
    one, other = (ms.evaluate(of, data) for of in readings)
    print(f"{len(list(data))} images, {given.split}, factor {given.factor}, {detector.algorithm.name}")
    print(f"AP50 whole {one.ap50:.4f}, reduced {other.ap50:.4f}")
    print(f"boxes above the threshold: {len(moved)}, moved by {np.median(moved):.2f} (median) and"
          f" {np.percentile(moved, 95):.2f} (95 %) network pixels, {lost} lost")  # fmt: skip
    each = [total / len(list(data)) for total in seconds]
    print(f"decoding and display: {each[0]:.3f} s whole, {each[1]:.3f} s reduced")


if __name__ == "__main__":
    main()
