"""The PACS node: receives studies, reads each when it is quiet, sends the results."""

from mammoscope.node.log import configure_logging
from mammoscope.node.model_pool import ModelPool
from mammoscope.node.node import Node
from mammoscope.node.operation import OperatedNode, audit_of
from mammoscope.node.reading import MammogramDetector
from mammoscope.node.worker import Worker, helper_name

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
