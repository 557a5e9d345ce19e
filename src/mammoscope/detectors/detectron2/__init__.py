"""Detectron2's RetinaNet and Faster R-CNN: the same arithmetic, and the same tensor names, without Detectron2."""

from mammoscope.detectors.detectron2.build import build_detectron2

__all__ = ["build_detectron2"]
