"""The pages: a worklist, a study, figures, the audit trail, and the way in."""

from mammoscope.review.pages.routes import router

__all__ = ["router"]
