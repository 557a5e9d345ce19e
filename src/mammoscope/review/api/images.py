"""Tiles of images and how to display them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from mammoscope.findings import Box
from mammoscope.review.access import Changing, LoggedIn, Room
from mammoscope.review.errors import NotFoundError, ReviewError
from mammoscope.review.heat_maps import Stage
from mammoscope.review.study_view import display_facts
from mammoscope.review.tiles import picture_of

router = APIRouter(prefix="/api/images", tags=["images"])

Number = Annotated[int, Path(ge=1, le=2**53)]
Coordinate = Annotated[int, Path(ge=0, le=2**20)]

Edge = Annotated[float, Query(ge=-1e6, le=1e6, allow_inf_nan=False)]

MARK = r"^(p[0-9]{1,15}|d[0-9a-f]{32})$"
"""What a box is called."""

# A digest names its tiles for ever; private, since they are a patient's.
_KEPT = "private, max-age=3600, immutable"


@router.get("/{image}")
def display(image: Number, room: Room, session: LoggedIn) -> dict[str, Any]:
    """How an image is displayed and where its tiles are; cut now if nobody looked at it before. Who looks is noted."""
    there = room.store.image(image)
    room.note("ImageViewed", session.user.name, image=there.key)
    return display_facts(room.pyramid(there))


@router.get("/{image}/preview", response_class=Response)
def preview(image: Number, room: Room, _: LoggedIn) -> Response:
    """The whole image as it hangs, as a small JPEG; 404 where it is not cut yet."""
    pyramid = room.cut_before(room.store.image(image))
    if pyramid is None:
        raise NotFoundError("the image is not cut into tiles yet.")
    return Response(room.tiles.preview(pyramid), media_type="image/jpeg", headers={"Cache-Control": _KEPT})


@router.get("/{image}/patch", response_class=Response)
def patch(image: Number, room: Room, _: LoggedIn, x0: Edge, y0: Edge, x1: Edge, y1: Edge) -> Response:
    """A box with as much again around it, as a small JPEG."""
    there = room.store.image(image)
    try:
        box = Box(x0, y0, x1, y1)
    except ValueError:
        raise ReviewError("a box needs a width and a height.") from None
    content = room.tiles.patch(room.pyramid(there), box)
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": _KEPT})


class HeatMapRequest(BaseModel):
    """Of which box a heat map is wanted."""

    model_config = ConfigDict(extra="forbid")

    mark: str = Field(pattern=MARK, description="A box as this reader sees it.")


@router.post("/{image}/heat-map")
def heat_map(image: Number, asked: HeatMapRequest, room: Room, session: Changing) -> dict[str, Any]:
    """How far the heat map of a box is; asked for the first time it is begun. Ask again until it is done."""
    there = room.store.image(image)
    marks = room.store.marks(there.study, session.user.name)[image][1]
    mark = next((one for one in marks if one.id == asked.mark), None)
    if mark is None:
        raise NotFoundError("that box is not there, or is no longer: load the study again.")
    state = room.heat_map(there, mark)
    if state.stage is Stage.WAITING and state.done == 0:
        room.note("HeatMapAsked", session.user.name, image=there.key)
    return {
        "state": str(state.stage),
        "done": state.done,
        "total": state.total,
        "extent": state.extent,
        "says": state.says,
        "picture": f"/api/images/{image}/heat-map/{state.key}" if state.stage is Stage.DONE else None,
    }


@router.get("/{image}/heat-map/{key}", response_class=Response)
def heat_map_picture(
    image: Number, key: Annotated[str, Path(pattern="^[0-9a-f]{64}$")], room: Room, _: LoggedIn
) -> Response:
    """A heat map as it hangs: a PNG to lay over the image."""
    room.store.image(image)
    return Response(room.heat_maps.picture(key), media_type="image/png", headers={"Cache-Control": _KEPT})


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
    """A tile of 512 by 512 values: all their low bytes, then all their high ones; gzip is HTTP's content encoding."""
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
