"""Write data/detectron2.json: what Detectron2 itself makes of the networks in detectron2_cases.py.

Run it where Detectron2 is installed: ``python tests/detectors/make_detectron2_fixture.py``.
"""

import json
import sys
from pathlib import Path

import torch
from detectron2 import model_zoo
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).parent))
import detectron2_cases as cases


def network(name: str, **settings: object) -> torch.nn.Module:
    """Detectron2's network of a model zoo configuration, with the drawn weights."""
    configuration = model_zoo.get_config(f"COCO-Detection/{name}.yaml")
    configuration.MODEL.DEVICE = "cpu"
    configuration.MODEL.RETINANET.NUM_CLASSES = configuration.MODEL.ROI_HEADS.NUM_CLASSES = cases.CLASSES
    for key, value in settings.items():
        configuration.merge_from_list([key.replace("__", "."), value])
    model = build_model(configuration)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(value) for key, value in cases.tensors(shapes).items()}, strict=True)
    return model


def picture(number: int) -> torch.Tensor:
    """An input as Detectron2 wants it: three channels from 0 to 255."""
    return torch.from_numpy(cases.image(number))[None].expand(3, -1, -1).float()


def detections(model: torch.nn.Module) -> list[dict[str, list]]:
    """Per image, everything found."""
    model.eval()
    with torch.no_grad():
        found = [model([{"image": picture(number)}])[0]["instances"] for number in range(cases.IMAGES)]
    return [
        {
            "boxes": [[round(edge, 3) for edge in box] for box in one.pred_boxes.tensor.tolist()],
            "scores": [round(score, 6) for score in one.scores.tolist()],
            "labels": one.pred_classes.tolist(),
        }
        for one in found
    ]


def losses(model: torch.nn.Module) -> dict[str, float]:
    """Of one batch of all images."""
    batch = []
    for number in range(cases.IMAGES):
        truth = Instances((cases.ROWS, cases.COLUMNS))
        truth.gt_boxes = Boxes(torch.tensor(cases.BOXES[number], dtype=torch.float32))
        truth.gt_classes = torch.tensor(cases.LABELS[number])
        batch.append({"image": picture(number), "instances": truth})
    model.train()
    with EventStorage():
        return {name: float(value) for name, value in model(batch).items()}


def main() -> None:
    """Write the fixture."""
    # Whatever is drawn at random in training is drawn whole, so that no generator decides.
    whole = {"MODEL__RPN__BATCH_SIZE_PER_IMAGE": 100_000, "MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE": 100_000}
    content = {
        name: {"detections": detections(network(name)), "losses": losses(network(name, **whole))}
        for name in cases.MODELS
    }
    file = Path(__file__).parent / "data" / "detectron2.json"
    file.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n")
    for name, one in content.items():
        scores = [image["scores"] for image in one["detections"]]
        print(name, [len(found) for found in scores], [found[:3] for found in scores], one["losses"])


if __name__ == "__main__":
    main()
