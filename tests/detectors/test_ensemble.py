"""Several detectors as one: averages by hand, mirror images, sizes, and looks that see nothing."""

import pytest
import torch
from torch import Tensor, nn

from mammoscope.detectors import DetectorSpec, FusedDetector, MassDetector, fuse

SPEC = DetectorSpec(architecture="retinanet", backbone="tf_efficientnet_lite0", weights="none")


def look(*found: tuple[tuple[float, float, float, float], float, int]) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor([box for box, _, _ in found], dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor([score for _, score, _ in found], dtype=torch.float32),
        "labels": torch.tensor([label for _, _, label in found], dtype=torch.int64),
    }


class Brightest(nn.Module):
    """Finds the one bright rectangle of each picture; its score is how bright it is."""

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        found = []
        for image in images:
            rows, columns = torch.nonzero(image[0] > image[0].max() / 2, as_tuple=True)
            box = (float(columns.min()), float(rows.min()), float(columns.max()) + 1, float(rows.max()) + 1)
            found.append(look((box, float(image[0].max()), 0)))
        return found


def brightest() -> MassDetector:
    return MassDetector(Brightest(), SPEC).eval()


def test_what_looks_agree_on_is_averaged_and_the_rest_shares_its_score_with_those_that_saw_nothing():
    first = look(((0, 0, 10, 10), 0.8, 0), ((50, 50, 60, 60), 0.6, 0))
    second = look(((0, 0, 10, 12), 0.4, 0))

    fused = fuse([first, second], 0.5, 100)

    assert fused["scores"].tolist() == pytest.approx([0.6, 0.3])
    # The second corner: (0.8 * 10 + 0.4 * 12) / 1.2 = 10.667.
    assert fused["boxes"][0].tolist() == pytest.approx([0, 0, 10, 10.6667], rel=1e-4)
    assert fused["boxes"][1].tolist() == pytest.approx([50, 50, 60, 60])


def test_a_look_counts_once_for_a_box_by_its_best():
    first = look(((0, 0, 10, 10), 0.9, 0))
    second = look(((0, 0, 10, 11), 0.5, 0), ((0, 0, 10, 9), 0.4, 0))

    fused = fuse([first, second], 0.5, 100)

    assert fused["scores"].tolist() == pytest.approx([0.7])


def test_agreement_reorders_and_the_limit_keeps_the_best():
    first = look(((0, 0, 10, 10), 0.9, 0), ((50, 50, 60, 60), 0.6, 0))
    second = look(((50, 50, 60, 60), 0.7, 0))

    fused = fuse([first, second], 0.5, 1)

    assert fused["scores"].tolist() == pytest.approx([0.65])
    assert fused["boxes"][0].tolist() == pytest.approx([50, 50, 60, 60])


def test_classes_are_fused_apart():
    fused = fuse([look(((0, 0, 10, 10), 0.8, 0)), look(((0, 0, 10, 10), 0.6, 1))], 0.5, 100)

    assert fused["scores"].tolist() == pytest.approx([0.4, 0.3])
    assert fused["labels"].tolist() == [0, 1]


def test_looks_that_find_nothing_give_nothing():
    fused = fuse([look(), look()], 0.5, 100)

    assert fused["boxes"].shape == (0, 4)
    assert fused["scores"].shape == fused["labels"].shape == (0,)


@pytest.mark.parametrize("mirrored", [False, True])
def test_every_look_is_put_back_where_it_was_seen(mirrored: bool):
    picture = torch.zeros(1, 1, 64, 96)
    picture[..., 8:24, 12:36] = 0.5
    detector = FusedDetector([brightest(), brightest()], [(64, 96), (32, 48)], mirrored=mirrored).eval()

    (found,) = detector(picture)

    assert found["boxes"].tolist() == [pytest.approx([12, 8, 36, 24])]
    assert found["scores"].tolist() == pytest.approx([0.5])


def test_several_images_at_once():
    pictures = torch.zeros(2, 1, 64, 64)
    pictures[0, :, 0:8, 0:8] = 0.5
    pictures[1, :, 32:48, 16:32] = 0.7

    found = FusedDetector([brightest()], [(64, 64)], mirrored=True).eval()(pictures)

    assert [one["boxes"].tolist() for one in found] == [[[0, 0, 8, 8]], [[16, 32, 32, 48]]]


def test_it_does_not_learn():
    with pytest.raises(RuntimeError, match="train its members"):
        FusedDetector([brightest()], [(64, 64)]).train()(torch.zeros(1, 1, 64, 64))


def test_members_that_do_not_fit_together_are_refused():
    other = MassDetector(Brightest(), SPEC.model_copy(update={"classes": ("benign", "malignant")}))
    with pytest.raises(ValueError, match="find the same classes"):
        FusedDetector([brightest(), other], [(64, 64), (64, 64)])
    with pytest.raises(ValueError, match="at least one member, each with the size"):
        FusedDetector([], [])
    with pytest.raises(ValueError, match="at least one member, each with the size"):
        FusedDetector([brightest()], [])
