"""`mammoscope dataset show` and `index`: what is in a data set, from its index.

`mammoscope dataset card`: what a data set is, on one page.

`mammoscope dataset audit`: what in a data set would spoil figures.
"""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mammoscope.cli.outputs import new_file
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    import pyarrow

    from mammoscope.datasets.audit import Audit, AuditFinding, Fix


_MOST_VALUES = 12
_HASHES = ("none", "files", "pixels")
_COUNTED = ("laterality", "view", "density", "pathology", "scanner", "split", "fold", "review")
_COLUMNS = [*_COUNTED, "patient", "rows", "columns", "n_boxes", "labels", "box_sides"]


def show(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what is in a data set."""
    from mammoscope.datasets import load_dataset, read_index
    from mammoscope.datasets.index import check_locks, open_index

    if read_index(folder, []) is None:
        load_dataset(folder)  # which says what is wrong with it
    index = open_index(folder, _COLUMNS)
    check_locks(index)
    if as_json:
        typer.echo(json.dumps({"data set": folder.resolve().name, **_all_facts(index.table)}, indent=1))
        return
    table = Table("", folder.resolve().name, title="Data set")
    for name, value in _facts(index.table):
        table.add_row(name, value)
    Console().print(table)


def write_index(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    hashes: Annotated[
        str, typer.Option(help="Which hashes to add: none, files, or pixels (both; decodes every image).")
    ] = "none",
    processes: Annotated[int | None, typer.Option(min=1, help="How many decode at once; all cores by default.")] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Spread the hashing over this Ray cluster.")
    ] = None,
) -> None:
    """Write the index, images.parquet, anew."""
    from mammoscope.cluster import RayCluster
    from mammoscope.datasets import Hashes, write_index

    if hashes not in _HASHES:
        raise MammoscopeError(f"--hashes {hashes}: there are {', '.join(_HASHES)}.")
    with (
        RayCluster(ray) if ray else nullcontext() as cluster,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task("hashing", total=None)
        index = write_index(
            folder, hashes=Hashes(hashes), processes=processes, spread=cluster.map if cluster else None,
            progress=lambda n, total: progress.update(task, completed=n, total=total),
        )  # fmt: skip
    lacking = index.table.column("pixel_sha256").null_count if hashes == "pixels" else 0
    typer.echo(f"{index.table.num_rows} images in {folder / 'images.parquet'}.")
    if lacking:
        typer.echo(f"The pixels of {lacking} images cannot be read.")
        raise typer.Exit(1)


def _all_facts(table: "pyarrow.Table") -> dict[str, Any]:
    """Counts as numbers; of values, all of them, the most frequent first."""
    import pyarrow.compute as pc

    sides = pc.list_flatten(table.column("box_sides"))
    empty = table.filter(pc.equal(table.column("n_boxes"), 0))
    facts: dict[str, Any] = {
        "images": table.num_rows,
        "patients": pc.count_distinct(table.column("patient")).as_py(),
        "boxes": pc.sum(table.column("n_boxes")).as_py(),
        "images without a box": empty.num_rows,
        # Those of which nobody said that they show no lesion.
        "unannotated images without a box": pc.sum(pc.equal(empty.column("review"), "unannotated")).as_py() or 0,
        "labels": _counts(pc.list_flatten(table.column("labels"))),
    }
    silent = {"split": "not split", "fold": "none"}
    facts |= {name: _counts(table.column(name), silent.get(name, "unknown")) for name in _COUNTED}
    for side in ("rows", "columns"):
        least, most = (value.as_py() for value in pc.min_max(table.column(side)).values())
        facts[side] = {"least": least, "most": most}
    if len(sides):
        smallest, largest = (value.as_py() for value in pc.min_max(sides).values())
        facts["box side"] = {"least": smallest, "median": pc.quantile(sides, 0.5)[0].as_py(), "most": largest}
    return facts


def _counts(values: Any, silent: str = "unknown") -> dict[str, int]:
    counts = [(entry["values"], entry["counts"]) for entry in values.value_counts().to_pylist()]
    named = [(silent if value is None else str(value), count) for value, count in counts]
    return dict(sorted(named, key=lambda entry: (-entry[1], entry[0])))


def _facts(table: "pyarrow.Table") -> list[tuple[str, str]]:
    """The same in words."""
    facts = _all_facts(table)
    if unknown := facts.pop("unannotated images without a box"):
        facts["images without a box"] = f"{facts['images without a box']}, of them {unknown} unannotated"
    side = facts.pop("box side", None)
    of_size = "no boxes"
    if side is not None:
        of_size = f"{side['least']:.1f} to {side['most']:.1f} %, median {side['median']:.1f} %"
    return [
        *((name, _in_words(value) if isinstance(value, dict) else str(value)) for name, value in facts.items()),
        ("box side (root of the share of the image)", of_size),
    ]


def _in_words(counts: dict[str, int]) -> str:
    """Values with their counts, by value; of many, the most frequent."""
    if set(counts) == {"least", "most"}:
        return f"{counts['least']} to {counts['most']}"
    if len(counts) > _MOST_VALUES:
        often = list(counts.items())[:_MOST_VALUES]
        return ", ".join(f"{value} {count}" for value, count in often) + f", and {len(counts) - _MOST_VALUES} others"
    return ", ".join(f"{value} {count}" for value, count in sorted(counts.items())) or "none"


def card(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    out: Annotated[Path, typer.Option(help="The file to write, .md or .html.")] = Path("card.md"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a data card: counts, patients, views, sizes of lesions, density, pathology, splits, licence, citation."""
    from mammoscope.evaluation.reports.dataset_card import card_html, card_markdown, dataset_card

    writers = {".md": card_markdown, ".html": card_html}
    if out.suffix not in writers:
        raise MammoscopeError(f"--out {out}: a card is written as .md or .html.")
    new_file(out, force=force)
    text = writers[out.suffix](dataset_card(folder))
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None
    typer.echo(f"Card: {out}")


_MOST = 6
_COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}


def audit(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    report: Annotated[
        Path | None, typer.Option(help="HTML file to write, with pictures of each case: it holds images of patients.")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Cut boxes at the edge, remove boxes without area and exact duplicates.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="How many decode at once; all cores by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Believe what an earlier audit measured of files.")] = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Spread the measuring over this Ray cluster.")
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Another data set's folder (may be repeated): images that are there too, stretched or not."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    pictures: Annotated[int, typer.Option(min=0, help="How many cases of a check the page shows with pictures.")] = 24,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that is there.")] = False,
) -> None:
    """Look for what spoils figures: leaks, duplicates, boxes that do not fit, wrong sides, damaged files.

    Exit code 1 when there are errors (with --fix, errors that it did not repair).
    """
    from mammoscope.cluster import RayCluster
    from mammoscope.datasets.audit import audit_dataset, audit_html, fix_dataset

    if report is not None:
        if not report.absolute().parent.is_dir():
            raise MammoscopeError(f"{report} cannot be written: name a file in a folder that is there.")
        new_file(report, force=force, option="--report")
    columns = TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        RayCluster(ray) if ray else nullcontext() as cluster,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task("", total=None)
        found = audit_dataset(
            folder, resume=resume, jobs=jobs, spread=cluster.map if cluster else None, against=against or (),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip
    fixes = fix_dataset(found) if fix else ()
    if report is not None:
        try:
            report.write_text(audit_html(found, most=pictures, fixes=fixes), encoding="utf-8")
        except OSError as error:
            raise MammoscopeError(f"{report} cannot be written: {error.strerror}.") from None
    left = audit_dataset(folder, resume=True, jobs=jobs, against=against or ()) if fixes else found
    if as_json:
        typer.echo(json.dumps({**left.to_json(), "fixed": [_fixed(one) for one in fixes]}, indent=1))
    else:
        _print(left, fixes, report)
    if any(finding.check.severity == "error" for finding in left.findings):
        raise typer.Exit(1)


def _fixed(fix: "Fix") -> dict[str, object]:
    from dataclasses import asdict

    return {name: value for name, value in asdict(fix).items() if value is not None}


def _print(audit: "Audit", fixes: "tuple[Fix, ...]", report: Path | None) -> None:
    console = Console(highlight=False)
    for fix in fixes:
        console.print(f"repaired: {escape(fix.file_name)}: {fix.change}, {escape(fix.why)}", soft_wrap=True)
    for check, findings in audit.by_check.items():
        colour = _COLOURS[check.severity]
        console.print(f"[{colour}]{check.severity}[/] [bold]{check.name}[/], {len(findings)}: {escape(check.matters)}")
        console.print(_table(findings))
        console.print(f"  {escape(check.mends)}", style="dim")
        console.print()
    counts = {severity: sum(f.check.severity == severity for f in audit.findings) for severity in _COLOURS}
    said = ", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items())
    console.print(f"{len(audit.dataset.images)} images: {said}.")
    if report is not None:
        console.print(f"Report: {escape(str(report))}; it holds images of patients.", soft_wrap=True)


def _table(findings: "tuple[AuditFinding, ...]") -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column("image", overflow="fold", ratio=2)
    table.add_column("what", overflow="fold", ratio=3)
    for finding in findings[:_MOST]:
        files = finding.case.file_names
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        table.add_row(escape(files[0]) + more if files else "the whole set", escape(finding.case.said))
    if len(findings) > _MOST:
        table.add_row("…", f"and {len(findings) - _MOST} more (--report shows them, --json lists them)")
    return table
