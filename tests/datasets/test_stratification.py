import json
from collections import Counter

import numpy as np
import pytest

from mammoscope.datasets import (
    AnnotatedImage,
    DatasetError,
    SplitSizes,
    Stratum,
    divide_into_folds,
    folds_of,
    import_coco,
    load_dataset,
    read_index,
    split_stratified,
    with_fold_apart,
)
from mammoscope.datasets.stratification import assign_stratified
from mammoscope.findings import Box


def drawn(n_patients=300, seed=0, most_images=4):
    """Patients with one to four images, a rare scanner, a rare pathology, density of each patient."""
    rng = np.random.default_rng(seed)
    images = []
    for patient in range(n_patients):
        facts = {
            "scanner": str(rng.choice(["A", "B", "C"], p=[0.7, 0.25, 0.05])),
            "density": int(rng.choice([1, 2, 3, 4], p=[0.1, 0.4, 0.4, 0.1])),
            "attributes": {"pathology": str(rng.choice(["BENIGN", "MALIGNANT", "RARE"], p=[0.6, 0.36, 0.04]))},
        }
        for _ in range(rng.integers(1, most_images + 1)):
            boxes = tuple(Box(0, 0, 9, 9) for _ in range(rng.choice([0, 1, 3], p=[0.4, 0.5, 0.1])))
            images.append(
                AnnotatedImage(len(images), None, 40, 50, f"p{patient}", boxes=boxes, labels=("Mass",) * len(boxes),
                               facts=facts)
            )  # fmt: skip
    return images


def counted(images, parts, value):
    counts = {part: Counter() for part in (*set(parts.values()), None)}
    for image in images:
        counts[parts.get(image.patient)][value(image)] += 1
    return counts


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_part_looks_like_the_whole(seed):
    images = drawn()
    n = len(images)
    parts = assign_stratified(images, {"train": 0.7 * n, "val": 0.15 * n, "test": 0.15 * n}, tuple(Stratum), seed)
    assert len(parts) == 300
    values = {
        "scanner": lambda image: image.facts["scanner"],
        "density": lambda image: image.facts["density"],
        "pathology": lambda image: image.facts["attributes"]["pathology"],
        "with a box": lambda image: bool(image.boxes),
    }
    for value in values.values():
        counts = counted(images, parts, value)
        total = sum(counts.values(), Counter())
        for part, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            for each, number in total.items():
                # within what a patient or two make
                assert counts[part][each] == pytest.approx(share * number, abs=max(4, 0.08 * share * number))


def test_parts_are_more_alike_than_by_chance():
    images = drawn()
    n = len(images)

    kinds = (lambda image: image.facts["scanner"], lambda image: image.facts["attributes"]["pathology"])

    def unlikeness(parts):
        lacks = 0.0
        for kind in kinds:
            counts = counted(images, parts, kind)
            lacks += sum(abs(counts["val"][each] - 0.3 * n) for each, n in sum(counts.values(), Counter()).items())
        return lacks

    wanted = {"train": 0.7 * n, "val": 0.3 * n}
    ours = [unlikeness(assign_stratified(images, wanted, tuple(Stratum), seed)) for seed in range(5)]
    rng = np.random.default_rng(1)
    chance = [
        unlikeness({f"p{patient}": str(rng.choice(["train", "val"], p=[0.7, 0.3])) for patient in range(300)})
        for _ in range(5)
    ]
    assert np.mean(ours) < 0.2 * np.mean(chance)


def shares(images, patients):
    """Of the patients with that many images and boxes, and of the images in each stratum."""
    kept = [image for image in images if image.patient in patients]
    boxes = Counter()
    for image in kept:
        boxes[image.patient] += len(image.boxes)
    found = {}
    for name, values in (
        ("images of a patient", Counter(image.patient for image in kept).values()),
        ("boxes of a patient", [min(count, 4) for count in boxes.values()]),
        ("boxes", [min(len(image.boxes), 3) for image in kept]),
        ("scanner", [image.facts["scanner"] for image in kept]),
        ("density", [image.facts["density"] for image in kept]),
        ("pathology", [image.facts["attributes"]["pathology"] for image in kept]),
    ):
        counts = Counter(values)
        found |= {(name, value): count / sum(counts.values()) for value, count in counts.items()}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["0.7/0.15/0.15", "600/200/200"])
def test_each_split_is_within_three_points_of_the_whole_over_twenty_seeds(sizes):
    images = drawn(400, 1)
    wanted = SplitSizes.parse(sizes)
    share = 1 if wanted.exact else len(images)
    whole = shares(images, {image.patient for image in images})
    worst = 0.0
    for seed in range(1, 21):
        parts = assign_stratified(images, {s: n * share for s, n in wanted.sizes.items()}, tuple(Stratum), seed)
        for split in wanted.sizes:
            got = shares(images, {patient for patient, part in parts.items() if part == split})
            worst = max(worst, *(abs(got.get(each, 0.0) - value) for each, value in whole.items()))
    assert worst < 0.03


def test_exact_numbers_are_met():
    images = drawn()
    n = len(images)
    wanted = {"train": n - 200, "val": 100, "test": 100}
    parts = assign_stratified(images, wanted, tuple(Stratum), 1)
    assert Counter(parts[image.patient] for image in images) == wanted
    wanted = {"train": 300, "val": 61, "test": 47}  # the others stay out
    parts = assign_stratified(images, wanted, tuple(Stratum), 1)
    assert Counter(parts.get(image.patient) for image in images) == {**wanted, None: n - 408}


def test_exact_numbers_as_near_as_patients_allow():
    # ten patients of four images: 17 cannot be met, 16 is nearest
    images = [AnnotatedImage(n, None, 4, 4, f"p{n // 4}") for n in range(40)]
    parts = assign_stratified(images, {"train": 23, "val": 17}, (), 1)
    assert Counter(parts[image.patient] for image in images) == {"train": 24, "val": 16}
    # a part of one: three and five images have no subset of one, but 2 x 3 = 5 + 1
    images = [AnnotatedImage(n, None, 4, 4, f"p{p}") for n, p in enumerate([0] * 3 + [1] * 3 + [2] * 5)]
    parts = assign_stratified(images, {"a": 6, "b": 5}, (), 1)
    assert Counter(parts[image.patient] for image in images) == {"a": 6, "b": 5}


def test_neither_order_nor_machine_matters():
    images = drawn(80)
    wanted = {"train": 120, "val": 40}
    assert assign_stratified(images, wanted, tuple(Stratum), 5) == assign_stratified(
        images[::-1], wanted, tuple(Stratum), 5
    )
    assert assign_stratified(images, wanted, tuple(Stratum), 6) != assign_stratified(images, wanted, tuple(Stratum), 5)


@pytest.mark.parametrize(
    ("text", "sizes", "exact"),
    [
        ("0.7/0.15/0.15", {"train": 0.7, "val": 0.15, "test": 0.15}, False),
        ("2378/400/400", {"train": 2378, "val": 400, "test": 400}, True),
        ("0.8/0/0.2", {"train": 0.8, "test": 0.2}, False),
        ("0.8/0.2", {"train": 0.8, "val": 0.2}, False),
        (" 10 / 5 ", {"train": 10, "val": 5}, True),
    ],
)
def test_sizes(text, sizes, exact):
    parsed = SplitSizes.parse(text)
    assert (parsed.sizes, parsed.exact) == (sizes, exact)


@pytest.mark.parametrize(
    "text", ["", "1", "a/b", "0.7/0.2/0.2", "70/15.5/15", "1/2/3/4", "-1/2", "0/5", "nan/1", "inf/1"]
)
def test_sizes_that_make_no_sense(text):
    with pytest.raises(DatasetError, match="--split"):
        SplitSizes.parse(text)


@pytest.fixture
def folder(collection, tmp_path):
    """Forty patients with two images each, every other one with a box."""
    first = collection.images / collection.coco["images"][0]["file_name"]
    names = [f"{patient:05}_LEFT_{view}.png" for patient in range(1, 41) for view in ("CC", "MLO")]
    for name in names:
        if not (collection.images / name).exists():
            (collection.images / name).hardlink_to(first)
    images = [{"id": n, "file_name": name, "height": 40, "width": 50} for n, name in enumerate(names)]
    boxes = [{"id": n, "image_id": n, "category_id": 0, "bbox": [1, 1, 9, 9]} for n in range(0, 80, 2)]
    collection.change(lambda coco: coco.update(images=images, annotations=boxes))
    import_coco(collection.annotations, collection.images, tmp_path / "set")
    return tmp_path / "set"


def test_a_folder_is_split_locked_and_indexed(folder):
    sizes = SplitSizes.parse("40/21/11")
    done = split_stratified(folder, sizes)
    # patients have two images: 20 or 22 and 10 or 12 are nearest
    assert done.images["train"] % 2 == 0
    assert sum(abs(over) for over in done.missed.values()) == 2
    assert done.left_over == 80 - sum(done.images.values())
    assert split_stratified(folder, sizes) == done
    data = load_dataset(folder)
    assert sum(image.split is None for image in data) == done.left_over
    counts = Counter(read_index(folder).table.column("split").to_pylist())
    assert counts == {**done.images, None: done.left_over}
    with pytest.raises(DatasetError, match="--force"):
        split_stratified(folder, SplitSizes.parse("0.5/0.5"))
    with pytest.raises(DatasetError, match=r"asks for 99 images, but .* has 80"):
        split_stratified(folder, SplitSizes.parse("90/9"), force=True)
    with pytest.raises(DatasetError, match=r"no whole patient of .* fits into val; ask for more"):
        split_stratified(folder, SplitSizes.parse("0.999/0.001"), force=True)
    assert split_stratified(folder, sizes) == done
    (folder / "annotations.json").write_text(
        (folder / "annotations.json").read_text().replace('"split": "val"', '"split": "train"', 2)
    )
    with pytest.raises(DatasetError, match=r"not those that splits\.json locked"):
        load_dataset(folder)


def test_stratified_folds_leave_out_what_a_split_left_out(folder):
    split_stratified(folder, SplitSizes.parse("40/20/10"))
    done = divide_into_folds(folder, 3, strata=(Stratum.MASS,))
    assert sum(done.images.values()) == 60
    assert max(done.images.values()) - min(done.images.values()) <= 4
    data = load_dataset(folder)
    assert folds_of(data) == (1, 2, 3)
    apart = with_fold_apart(data, 2)
    assert Counter(image.split for image in apart) == {
        "train": 60 - done.images[2], "val": done.images[2], "test": 10, None: 10,
    }  # fmt: skip
    assert json.loads((folder / "folds.json").read_text())["arguments"]["stratify"] == ["mass"]
