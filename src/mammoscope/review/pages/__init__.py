"""The pages: a worklist, a study, figures, the node, the audit trail, and the way in."""

from fastapi import APIRouter

from mammoscope.review.pages import login, node, routes

router = APIRouter()
router.include_router(routes.router)
router.include_router(login.router)
router.include_router(node.router)

__all__ = ["router"]
