"""Detectron2's RetinaNet and Faster R-CNN: the same arithmetic, and the same tensor names, without Detectron2."""

from mammoscope.detectors.detectron2.factory import build_detectron2

__all__ = ["build_detectron2"]
