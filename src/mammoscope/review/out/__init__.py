"""What leaves the reading room: what readers came to comes in, a COCO data set or objects for the PACS come out."""

from mammoscope.review.out.dataset import ExportedDataset, export_dataset

__all__ = ["ExportedDataset", "export_dataset"]
