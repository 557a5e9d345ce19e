"""How the detector does at this site, for programs."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from mammoscope.review.access import LoggedIn, Room
from mammoscope.review.figures import FALSE_POSITIVES, Group, Intake, site_figures

router = APIRouter(prefix="/api", tags=["figures"])


@router.get("/figures")
def figures(
    room: Room,
    _: LoggedIn,
    false_positives: Annotated[
        list[Annotated[float, Query(ge=0, le=100)]] | None,
        Query(max_length=10, description="An image, at most: a threshold is chosen for each."),
    ] = None,
) -> dict[str, Any]:
    """Figures by scanner and month, drift, and thresholds with the intervals of their choice; agreement of readers."""
    found = site_figures(room.store, false_positives or FALSE_POSITIVES)
    agreement = room.store.agreement()
    return {
        "read": {
            "all": _group(found.total),
            "scanners": [_group(one) for one in found.scanners],
            "months": [_group(one) for one in found.months],
        },
        "images": {
            "all": _intake(found.intake),
            "scanners": [_intake(one) for one in found.intake_scanners],
            "months": [_intake(one) for one in found.intake_months],
        },
        "drift": [asdict(drift) for drift in found.drifts],
        "thresholds": [{"at_most": most, **asdict(point)} for most, point in found.thresholds.items()],
        "alarms": list(found.alarms),
        "agreement": {
            **asdict(agreement),
            "kappa": agreement.kappa,
            "positive_agreement": agreement.positive_agreement,
        },
    }


def _group(group: Group) -> dict[str, Any]:
    figures = {name: getattr(group, name) for name in ("acceptance", "false_positives", "sensitivity")}
    return {**asdict(group), **figures}


def _intake(intake: Intake) -> dict[str, Any]:
    return {**asdict(intake), "findings_per_image": intake.findings_per_image}
