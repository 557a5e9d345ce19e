"""What leaves the reading room: what readers came to comes in, a COCO data set or objects for the PACS come out."""

from mammoscope.review.out.dataset import ExportedDataset, export_dataset, export_read
from mammoscope.review.out.results import PacsSender, reader_results

__all__ = ["ExportedDataset", "PacsSender", "export_dataset", "export_read", "reader_results"]
