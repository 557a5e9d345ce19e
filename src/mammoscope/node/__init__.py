"""The PACS node: receives studies, reads each when it is quiet, sends the results."""

from mammoscope.inference.pool import ModelPool
from mammoscope.logging import configure_logging
from mammoscope.node.node import Node
from mammoscope.node.service import OperatedNode, audit_of
from mammoscope.node.worker import Worker, helper_name
from mammoscope.reading import MammogramDetector

__all__ = [
    "MammogramDetector",
    "ModelPool",
    "Node",
    "OperatedNode",
    "Worker",
    "audit_of",
    "configure_logging",
    "helper_name",
]
