"""`mammoscope demo`, a synthetic study through the whole way, and `mammoscope phantom`, which writes one."""

import json
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mammoscope.cli.outputs import new_folder
from mammoscope.cli.review import needs_review
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.demo import DemoRun, Match
    from mammoscope.findings import Box, Finding
    from mammoscope.phantom import PhantomImage, PhantomStudy


SHEET_HEIGHT = 600
MADE_HERE = ("study", "objects", "pictures", "node", ".incoming", "node.toml", "node.log")
FIRST_LINE = "Made by 'mammoscope demo', which replaces it when run again."
README = f"""\
{FIRST_LINE}
Everything in it is synthetic. Research use only; not a medical device.

study/      the mammograms that were sent: DICOM, Digital Mammography X-Ray Image - For Presentation
objects/    what the PACS received: a Mammography CAD SR, presentation states, a secondary capture
pictures/   each view with the truth in green and what was found in yellow, and all four in study.png
node.toml   the settings of the node that read the study; node.log is what it said, node/ what it keeps
"""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the study, the objects and the pictures.")] = Path(
        "demo-output"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another woman.")] = 1,
    masses: Annotated[int, typer.Option(min=0, help="Masses in the study, each seen in both views of its breast.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print truth and findings of each view as JSON.")] = False,
    review: Annotated[
        bool, typer.Option("--review", help="Let the node run until Ctrl-C, and show the study in its reading room.")
    ] = False,
) -> None:
    """Send a synthetic study with masses to a node, receive the results as a PACS does, and compare with the truth.

    Exit code 0: the way was gone to its end, whatever was found. 1: it was not.
    """
    from mammoscope.demo import DemoError, read_over_dicom
    from mammoscope.network import NetworkError
    from mammoscope.phantom import screening_study

    if review:
        needs_review()
    console = Console(stderr=as_json)
    started = time.monotonic()
    _empty(out)
    console.print(f"Making a synthetic screening study with {masses} masses (seed {seed})")
    study = screening_study(seed, masses=masses)
    files = study.save(out / "study")
    console.print("Starting a node, sending it the study over DICOM, waiting for the results")
    try:
        with read_over_dicom(files, out, review=review) as run:
            _tell(run, study, files, out, console, started, as_json=as_json)
            if run.reading_room is not None:
                _show_until_interrupted(run, console)
    except (DemoError, NetworkError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _show_until_interrupted(run: "DemoRun", console: Console) -> None:
    """Tell where the reading room is, last of all, and leave it open."""
    console.print(
        f"The reading room is at {run.reading_room} until Ctrl-C: type a name, open the study, and judge its boxes.",
        highlight=False,
        soft_wrap=True,
    )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the node would be left behind
    try:
        run.wait()
    except KeyboardInterrupt:
        console.print("Closed.")
    else:
        raise MammoscopeError("the node ended by itself; node.log says why")
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(
    run: "DemoRun",
    study: "PhantomStudy",
    files: "list[Path]",
    out: Path,
    console: Console,
    started: float,
    *,
    as_json: bool,
) -> None:
    from mammoscope.demo import marks, match

    objects = run.objects
    report = next(dataset for dataset in objects if dataset.Modality == "SR")
    found = marks(report)
    compared = []
    pictures = []
    for image, path in zip(study.images, files, strict=True):
        findings = found[str(image.dataset.SOPInstanceUID)]
        compared.append((f"{image.laterality} {image.view}", match(image.truth, findings)))
        pictures.append(_draw(image, path, findings, out / "pictures"))
    _draw_together(pictures, out / "pictures" / "study.png")

    if as_json:
        typer.echo(json.dumps([_as_json(view, line) for view, lines in compared for line in lines], indent=1))
    else:
        console.print(_table(compared))
    lines = [line for _, lines in compared for line in lines]
    truth = [line for line in lines if line.truth is not None]
    console.print(
        f"{sum(line.finding is not None for line in truth)} of {len(truth)} views of a mass found, "
        f"{len(lines) - len(truth)} marks on no mass; the PACS received {len(objects)} objects; "
        f"{time.monotonic() - started:.0f} s",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"Look into {escape(str(out))}: pictures/ and objects/. Research use only; not a medical device.",
        soft_wrap=True,
    )


def _empty(out: Path) -> None:
    """Make the folder, or clear what an earlier demo left in it; nothing else is ever deleted."""
    note = out / "README.txt"
    if out.is_dir() and any(out.iterdir()):
        if not note.is_file() or not note.read_text(encoding="utf-8").startswith(FIRST_LINE):
            raise MammoscopeError(f"{out} holds something that no demo made; name another folder with --out")
        for name in MADE_HERE:
            if (out / name).is_dir():
                shutil.rmtree(out / name)
            else:
                (out / name).unlink(missing_ok=True)
    try:
        (out / "pictures").mkdir(parents=True)
        (out / "objects").mkdir()
        note.write_text(README, encoding="utf-8")
    except OSError as error:
        raise MammoscopeError(f"cannot write to {out}: {error.strerror}; name another folder with --out") from error


def _table(compared: "list[tuple[str, list[Match]]]") -> Table:
    table = Table(title="What the PACS was told, beside the truth (in pixels)")
    for heading in ("view", "truth", "found", "score", ""):
        table.add_column(heading, no_wrap=True)
    for view, lines in compared:
        for line in lines:
            verdict = "[green]found[/]" if line.truth and line.finding else "[red]missed[/]"
            table.add_row(
                view,
                _where(line.truth),
                _where(line.finding.box if line.finding else None),
                f"{line.finding.score:.2f}" if line.finding else "",
                verdict if line.truth else "[yellow]no mass there[/]",
            )
        if not lines:
            table.add_row(view, "no mass", "nothing", "", "[green]right[/]")
    return table


def _as_json(view: str, line: "Match") -> dict[str, Any]:
    return {
        "view": view,
        "truth": None if line.truth is None else list(line.truth.as_tuple()),
        "found": None if line.finding is None else list(line.finding.box.as_tuple()),
        "score": None if line.finding is None else line.finding.score,
    }


def _where(box: "Box | None") -> str:
    if box is None:
        return "-"
    x, y = box.center
    return f"{box.width:.0f}x{box.height:.0f} at {x:.0f},{y:.0f}"


def _draw(image: "PhantomImage", path: Path, findings: "list[Finding]", folder: Path) -> Any:
    """Draw one view into the folder; give it back as small as it is on the sheet of all views."""
    from PIL import Image

    from mammoscope.findings import Reading, ReadingStatus
    from mammoscope.imaging import read_mammogram
    from mammoscope.results import draw_reading

    mammogram = read_mammogram(path)
    reading = Reading(
        name=mammogram.name,
        status=ReadingStatus.FOUND if findings else ReadingStatus.NOTHING_FOUND,
        findings=tuple(findings),
        rows=mammogram.rows,
        columns=mammogram.columns,
    )
    Image.fromarray(draw_reading(mammogram, reading, image.truth)).save(folder / f"{image.laterality}-{image.view}.png")
    return Image.fromarray(draw_reading(mammogram, reading, image.truth, max_side=SHEET_HEIGHT))


def _draw_together(pictures: list[Any], path: Path) -> None:
    """All views beside each other, chest wall to chest wall, as they hang."""
    from PIL import Image

    sheet = Image.new("RGB", (sum(picture.width for picture in pictures), max(p.height for p in pictures)))
    x = 0
    for picture in pictures:
        sheet.paste(picture, (x, 0))
        x += picture.width
    sheet.save(path, optimize=True)


def make_phantom(
    out: Annotated[Path, typer.Option(help="Folder for the four DICOM files and truth.json; made if missing.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same study.")] = 0,
    masses: Annotated[int, typer.Option(help="Number of masses, 0 to 6; 0 makes a normal study.")] = 2,
    rows: Annotated[int | None, typer.Option(help="Height of each image in pixels (default: 2048).")] = None,
    columns: Annotated[
        int | None, typer.Option(help="Width in pixels (default: three quarters of the height).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Make a synthetic four-view screening mammogram (DICOM MG) with known masses.

    truth.json holds the masses' boxes in COCO form.
    """
    from mammoscope.phantom import ROWS, PhantomError, screening_study

    new_folder(out, force=force)
    height = ROWS if rows is None else rows
    study = screening_study(seed, masses=masses, rows=height, columns=height * 3 // 4 if columns is None else columns)
    paths = study.save(out)
    truth = out / "truth.json"
    try:
        truth.write_text(json.dumps(study.truth_as_coco(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise PhantomError(f"cannot write {truth} ({error.strerror}): name a folder that can be written to") from error
    for image, path in zip(study.images, paths, strict=True):
        count = len(image.truth)
        typer.echo(f"{path}  {count} {'mass' if count == 1 else 'masses'}")
    typer.echo(truth)
