import pytest
from pydantic import ValidationError

from mammoscope.detectors import Backbone, DetectorSpec


def test_what_only_retinanet_can_do_is_refused_for_faster_rcnn():
    for part in ({"box_loss": "giou"}, {"norm": "group"}):
        assert DetectorSpec(architecture="retinanet", backbone="resnet50", **part)
        with pytest.raises(ValidationError, match='works with architecture = "retinanet" only'):
            DetectorSpec(architecture="faster_rcnn", backbone="resnet50", **part)


def test_only_resnets_come_from_torchvision():
    assert [backbone.value for backbone in Backbone if backbone.is_resnet] == ["resnet50", "resnet101"]
