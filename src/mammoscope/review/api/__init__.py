"""The JSON side: what the pages' scripts ask for and send. ``/openapi.json`` describes it."""

from mammoscope.review.api.figures import router as figures
from mammoscope.review.api.images import router as images
from mammoscope.review.api.studies import router as studies

__all__ = ["figures", "images", "studies"]
