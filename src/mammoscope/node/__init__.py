"""The PACS node: receives studies, reads each when it is quiet, sends the results."""

from mammoscope.node.log import configure_logging
from mammoscope.node.model_pool import ModelPool
from mammoscope.node.node import Node
from mammoscope.node.reading import MammogramDetector
from mammoscope.node.worker import Worker, helper_name

__all__ = ["MammogramDetector", "ModelPool", "Node", "Worker", "configure_logging", "helper_name"]
