"""Makes tests/imaging/data/prepared.npz anew: phantoms and what a network sees of each.

Only to be run when what networks see is meant to change, for every trained model then sees something else.
"""

from pathlib import Path

import numpy as np

from mammoscope.imaging import Crop, Mammogram, Preprocessing, prepare
from mammoscope.phantom import screening_study

FILE = Path(__file__).parent / "data" / "prepared.npz"
GEOMETRIES = {
    "shrunk": Preprocessing(192, 128),
    "shrunk, all of it": Preprocessing(192, 128, Crop.NONE),
    "enlarged": Preprocessing(512, 352),
}


def main() -> None:
    arrays = {}
    study = screening_study(5, masses=2, rows=420, columns=340)
    for image in (study.images[0], study.images[3]):
        name = f"{image.laterality} {image.view}"
        arrays[name] = image.dataset.pixel_array.astype(np.uint16)
        for which, geometry in GEOMETRIES.items():
            seen = prepare(Mammogram(arrays[name], name), geometry).pixels
            arrays[f"{name}, {which}"] = np.round(seen * 255).astype(np.uint8)
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
