"""``mammoscope node report``: what the model marks here, what other thresholds would mark, and which one to use."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mammoscope.cli.node.inspecting import AsJSON, Config, records_of
from mammoscope.errors import MammoscopeError
from mammoscope.untrusted_text import one_line

if TYPE_CHECKING:
    from mammoscope.evaluation.site import ChosenThreshold, SiteGroup
    from mammoscope.findings import Box
    from mammoscope.node.monitoring.site_report import SiteReport

_DAY = ["%Y-%m-%d"]


def report(
    config: Config,
    since: Annotated[datetime, typer.Option(formats=_DAY, help="First day on which the images were read.")],
    until: Annotated[datetime | None, typer.Option(formats=_DAY, help="Last day; without it all since.")] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="Tell what it would have marked; again for more. Without it 0.1 to 0.9."),
    ] = None,
    marks_per_image: Annotated[
        float | None, typer.Option(min=0, help="Choose the threshold that gives no more marks an image than this.")
    ] = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Choose the threshold that marks this share of the lesions confirmed by readers."
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Tell what was marked, and what other thresholds would have marked, by scanner, station, month and view.

    Works in shadow mode too. With --marks-per-image or --sensitivity the threshold is chosen, with its interval, and
    printed as the setting to use.
    """
    if until is not None and until < since:
        raise MammoscopeError(f"--until {until:%Y-%m-%d} lies before --since {since:%Y-%m-%d}: exchange them")
    if marks_per_image is not None and sensitivity is not None:
        raise MammoscopeError("a threshold is chosen by --marks-per-image or by --sensitivity, not by both")
    with records_of(config) as (settings, records):
        from mammoscope.evaluation.site import threshold_for_marks, threshold_for_sensitivity
        from mammoscope.node.monitoring.site_report import THRESHOLDS, site_images, site_report

        first = since.replace(tzinfo=UTC)
        end = datetime.now(UTC) if until is None else until.replace(tzinfo=UTC) + timedelta(days=1)
        confirmed = _confirmed(settings.node.storage)
        images = site_images(records, first, end, confirmed)
        told = site_report(images, threshold or THRESHOLDS)
        chosen = None
        if marks_per_image is not None:
            chosen = threshold_for_marks(images.with_lower_scores, marks_per_image)
        elif sensitivity is not None:
            chosen = threshold_for_sensitivity(images.with_lower_scores, sensitivity)
    if as_json:
        facts = {**asdict(told), "chosen": None if chosen is None else asdict(chosen)}
        typer.echo(json.dumps(facts, indent=2))
        return
    _print(told)
    if chosen is not None:
        typer.echo(_setting(chosen))


def _confirmed(storage: Path) -> "Mapping[tuple[str, str], Sequence[Box]] | None":
    """What readers confirmed in the reading room beside the node, if there is one."""
    folder = storage / "review"
    if not folder.is_dir():
        return None
    try:
        from mammoscope.review.confirmed import confirmed_lesions
        from mammoscope.review.store import ReviewStore
    except ImportError:  # its packages are not installed: nobody reads here
        return None
    store = ReviewStore(folder)
    try:
        return confirmed_lesions(store)
    finally:
        store.close()


def _print(told: "SiteReport") -> None:
    console = Console(highlight=False)
    total = told.total
    models = ", ".join(f"{one_line(name)} ({count})" for name, count in told.algorithms.items())
    at = ", ".join(f"{value:.4g} ({count})" for value, count in sorted(told.thresholds.items()))
    typer.echo(f"{total.images} images of {total.studies} studies were read by {models or 'no model'}, at {at or '-'}.")
    if told.not_processed:
        others = ", ".join(f"{code} {count}" for code, count in sorted(told.not_processed.items()))
        typer.echo(f"{sum(told.not_processed.values())} more were not processed: {others}.")
    if not total.images:
        return
    table = Table(title="What each threshold marks", title_justify="left", box=None, pad_edge=False)
    for name in ("threshold", "marks", "an image", "images marked", "studies marked", f"of {total.lesions} lesions"):
        table.add_column(name, justify="right")
    for one in total.at:
        table.add_row(
            f"{one.threshold:.4g}",
            f"{one.marks}{'' if one.complete else ' or more'}",
            f"{one.marks_per_image:.2f}",
            f"{one.images_marked:.1%}",
            f"{one.studies_marked:.1%}",
            "-" if one.sensitivity is None else f"{one.sensitivity:.1%}",
        )
    console.print(table)
    for kind, groups in told.groups.items():
        _print_groups(console, kind, groups)
    for sentence in told.drifts:
        typer.echo(one_line(sentence))


def _print_groups(console: Console, kind: str, groups: "Sequence[SiteGroup]") -> None:
    table = Table(title=f"Marks an image by {kind}", title_justify="left", box=None, pad_edge=False)
    table.add_column(kind, overflow="fold")
    for name in ("studies", "images", *(f"{at.threshold:.4g}" for at in groups[0].at)):
        table.add_column(name, justify="right")
    for group in groups:
        figures = (f"{at.marks_per_image:.2f}" for at in group.at)
        table.add_row(escape(one_line(group.name)), str(group.studies), str(group.images), *figures)
    console.print(table)


def _setting(chosen: "ChosenThreshold") -> str:
    """What to write into the settings file, with why."""
    if chosen.interval is None:
        interval = "too few studies for an interval"
    else:
        low, high = chosen.interval
        interval = f"95 % interval {low:.4f} to {high:.4f} (bootstrap over studies, {chosen.resamples} resamples)"
    of = f", {chosen.lesions} confirmed lesions" if chosen.wanted == "sensitivity" else ""
    return (
        f"\nTo use it, write into the settings and restart the node:\n\n"
        f"# {chosen.wanted} {chosen.reached:.3f}, at {chosen.value:g} wanted; {chosen.images} images of"
        f" {chosen.studies} studies{of}\n"
        f"# {interval}\n"
        f"[model]\nthreshold = {chosen.threshold:.4f}"
    )
