"""Several detectors as one: what they agree on counts more than what one of them sees alone."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import batched_nms, box_iou

from mammoscope.detectors.factory import MassDetector
from mammoscope.detectors.normalisation import real_boxes

Detections = dict[str, Tensor]


class FusedDetector(MassDetector):
    """Detectors that look at the same mammogram, and at its mirror image if asked, and whose detections are averaged.

    Detections of different looks that overlap are one: its box is their mean weighted by score, its score the sum of
    theirs divided by the number of looks, so that a look which saw nothing there counts as zero (weighted boxes
    fusion, Solovyev et al. 2021, of at most one box a look).

    Parameters
    ----------
    members
        Ready to run; all of the same classes.
    sizes
        Rows and columns that each member takes. The fused detector takes the first's; for the others the picture is
        resized.
    mirrored
        Whether each member also looks at the mirror image: twice the time.
    overlap
        IoU from which detections of different looks are the same.

    Raises
    ------
    ValueError
        If there is no member, a size is missing, or the members' classes differ.
    """

    def __init__(
        self,
        members: Sequence[MassDetector],
        sizes: Sequence[tuple[int, int]],
        *,
        mirrored: bool = False,
        overlap: float = 0.5,
    ) -> None:
        if not members or len(members) != len(sizes):
            raise ValueError("a fused detector has at least one member, each with the size of its input")
        if any(member.spec.classes != members[0].spec.classes for member in members):
            raise ValueError("the members of a fused detector find the same classes")
        super().__init__(nn.ModuleList(members), members[0].spec)
        self._sizes = tuple(sizes)
        self._mirrored = mirrored
        self._overlap = overlap

    def forward(
        self, images: Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Detections per image, as `MassDetector` gives them; a fused detector does not learn.

        Raises
        ------
        RuntimeError
            In training mode.
        """
        if self.training or targets is not None:
            raise RuntimeError("a fused detector does not learn: train its members")
        per_look = [
            look
            for member, size in zip(self._members(), self._sizes, strict=True)
            for mirrored in ((False, True) if self._mirrored else (False,))
            for look in [_look(member, size, images, mirrored=mirrored)]
        ]
        return [fuse(looks, self._overlap, self.spec.max_detections) for looks in zip(*per_look, strict=True)]

    def _members(self) -> list[MassDetector]:
        assert isinstance(self.network, nn.ModuleList)
        return cast(list[MassDetector], list(self.network))


def _look(member: MassDetector, size: tuple[int, int], images: Tensor, *, mirrored: bool) -> list[Detections]:
    """What one member finds, in pixels of the pictures given."""
    rows, columns = images.shape[-2:]
    pictures = images if size == (rows, columns) else interpolate(images, size, mode="bilinear", align_corners=False)
    scale = torch.tensor([columns / size[1], rows / size[0]] * 2, device=images.device)
    found = member(pictures.flip(-1) if mirrored else pictures)
    assert isinstance(found, list)
    return [
        {**one, "boxes": (_unmirrored(one["boxes"], size[1]) if mirrored else one["boxes"]) * scale} for one in found
    ]


def _unmirrored(boxes: Tensor, columns: int) -> Tensor:
    x0, y0, x1, y1 = boxes.unbind(dim=1)
    return torch.stack((columns - x1, y0, columns - x0, y1), dim=1)


def fuse(looks: Sequence[Detections], overlap: float, limit: int) -> Detections:
    """The detections of several looks at one image as one list, by falling score.

    Parameters
    ----------
    looks
        Each with ``boxes`` (n, 4), ``scores`` (n,) and ``labels`` (n,), in pixels of the same picture.
    overlap
        IoU from which detections of the same class are the same.
    limit
        So many are returned at most.
    """
    padded = [_with_nothing(_real(look)) for look in looks]
    boxes, scores, labels = (torch.cat([look[key] for look in padded]) for key in ("boxes", "scores", "labels"))
    look_of = torch.cat([torch.full_like(look["labels"], number) for number, look in enumerate(padded)])
    kept = batched_nms(boxes, scores, labels, overlap)
    same = (box_iou(boxes[kept], boxes) >= overlap) & (labels[kept][:, None] == labels[None])
    total = torch.zeros_like(scores[kept])
    weighted = torch.zeros_like(boxes[kept])
    for number in range(len(padded)):
        best, which = torch.where(same & (look_of == number)[None], scores[None], 0.0).max(dim=1)
        total = total + best
        weighted = weighted + best[:, None] * boxes[which]
    fused = total / len(padded)
    order = torch.argsort(fused, descending=True)[:limit]
    order = order[fused[order] > 0]
    return {"boxes": (weighted / total[:, None])[order], "scores": fused[order], "labels": labels[kept][order]}


def _real(look: Detections) -> Detections:
    kept = real_boxes(look["boxes"])
    return {name: value[kept] for name, value in look.items()}


def _with_nothing(look: Detections) -> Detections:
    """One more detection, of no area and no score: a maximum needs something to be the maximum of."""
    return {
        "boxes": torch.cat((look["boxes"], look["boxes"].new_zeros(1, 4))),
        "scores": torch.cat((look["scores"], look["scores"].new_zeros(1))),
        "labels": torch.cat((look["labels"], look["labels"].new_zeros(1))),
    }
