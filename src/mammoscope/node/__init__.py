"""The PACS node: receives studies, reads each when it is quiet, sends the results."""

from mammoscope.node.log import configure_logging
from mammoscope.node.node import Node
from mammoscope.node.reading import MammogramDetector

__all__ = ["MammogramDetector", "Node", "configure_logging"]
