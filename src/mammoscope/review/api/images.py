"""Tiles of images and how to display them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from mammoscope.review.access import LoggedIn, Room
from mammoscope.review.errors import NotFoundError
from mammoscope.review.tiles import picture_of

router = APIRouter(prefix="/api/images", tags=["images"])

Number = Annotated[int, Path(ge=1, le=2**53)]
Coordinate = Annotated[int, Path(ge=0, le=2**20)]

# A digest names its tiles for ever; private, since they are a patient's.
_KEPT = "private, max-age=3600, immutable"


@router.get("/{image}")
def display(image: Number, room: Room, session: LoggedIn) -> dict[str, Any]:
    """How an image is displayed and where its tiles are; cut now if nobody looked at it before. Who looks is noted."""
    there = room.store.image(image)
    room.note("ImageViewed", session.user.name, image=there.key)
    pyramid = room.pyramid(there)
    return {
        "digest": pyramid.digest,
        "spacing_mm": pyramid.spacing_mm,
        "tile": 512,
        **pyramid.display.model_dump(mode="json"),
    }


@router.get("/{image}/{digest}/{level}/{column}/{row}", response_class=Response)
def tile(
    image: Number,
    digest: str,
    level: Coordinate,
    column: Coordinate,
    row: Coordinate,
    room: Room,
    request: Request,
    _: LoggedIn,
) -> Response:
    """A tile of 512 by 512 values, ``uint16``, little-endian, compressed by gzip as HTTP's content encoding."""
    pyramid = room.pyramid(room.store.image(image))
    if pyramid.digest != digest:
        raise NotFoundError("the image is another one now: load the study again.")
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(status_code=406)
    content = room.tiles.tile(pyramid, level, column, row)
    headers = {"Content-Encoding": "gzip", "Cache-Control": _KEPT}
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.get("/{image}/{digest}/{level}/{column}/{row}/picture", response_class=Response)
def windowed(
    image: Number,
    digest: str,
    level: Coordinate,
    column: Coordinate,
    row: Coordinate,
    room: Room,
    _: LoggedIn,
    low: Annotated[float, Query(ge=-1e6, le=1e6)],
    high: Annotated[float, Query(ge=-1e6, le=1e6)],
    curve: Annotated[int, Query(ge=0, le=64)] = 0,
    inverted: bool = False,
) -> Response:
    """The same tile as an 8-bit PNG, windowed here: for a browser without WebGL."""
    pyramid = room.pyramid(room.store.image(image))
    if pyramid.digest != digest or curve >= len(pyramid.display.curves):
        raise NotFoundError("the image is another one now: load the study again.")
    content = room.tiles.tile(pyramid, level, column, row)
    png = picture_of(content, pyramid.display, pyramid.display.curves[curve], low, high, inverted=inverted)
    return Response(png, media_type="image/png", headers={"Cache-Control": _KEPT})
