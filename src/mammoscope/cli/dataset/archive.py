"""``mammoscope dataset pull``: mammograms of an archive become a data set.

`mammoscope dataset deidentify`: images without what names the patient.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from mammoscope.datasets.retrieve import Arrived, Fetched, Found, PulledStudies, Wanted
    from mammoscope.network import Peer, ReceivedObject, StudySource, TLSConfig


_DAY = ["%Y-%m-%d"]
_DIMSE = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>[^:@]+|\[[^]]+\]):(?P<port>\d{1,5})")
_LONGEST_ACCESSION = 16  # an SH (DICOM PS3.5 section 6.2)


def pull(
    source: Annotated[
        tuple[str, str],
        typer.Option("--from", metavar="dicomweb URL | dimse AET@HOST:PORT", help="The archive and what it speaks."),
    ],
    out: Annotated[Path, typer.Option(help="The data set's folder; what an earlier pull brought stays.")],
    accessions: Annotated[Path | None, typer.Option(help="A text file of accession numbers, one a line.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="KEYWORD=VALUE that a study must match, again for more."),
    ] = None,
    since: Annotated[datetime | None, typer.Option(formats=_DAY, help="First study date.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=_DAY, help="Last study date.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Fetch so many studies at most.")] = None,
    ae_title: Annotated[str, typer.Option(help="What we call ourselves, for dimse.")] = "MAMMOSCOPE",
    token_file: Annotated[Path | None, typer.Option(help="A file with the bearer token, for dicomweb.")] = None,
    tls: Annotated[
        tuple[Path, Path, Path] | None,
        typer.Option(metavar="CERTIFICATE KEY TRUSTED", help="PEM files, for TLS; dimse is plain without."),
    ] = None,
) -> None:
    """Fetch the mammograms of studies from an archive as a data set without annotations.

    Files are stored by pseudonym and UID as the archive sends them, and are not de-identified. An interrupted pull goes
    on where it stopped: give the same command again. Exit code 1: something was not found or not fetched.
    """
    from mammoscope.datasets.retrieve import Query, find_wanted, pull_studies
    from mammoscope.network import StudySource

    if not (accessions or where or since or until):
        raise MammoscopeError("say which studies: give --accessions, --where, --since or --until")
    if since and until and until < since:
        raise MammoscopeError(f"--until {until:%Y-%m-%d} lies before --since {since:%Y-%m-%d}: exchange them")
    matching = dict(map(_condition, where or []))
    if not accessions:
        matching.setdefault("ModalitiesInStudy", "MG")
    numbers = _accession_numbers(accessions) if accessions else ()
    query = Query(numbers, matching, since and since.date(), until and until.date())
    identity = _tls(tls)
    archive = _Archive(StudySource(_peer(*source, token_file, tls=identity is not None), ae_title, identity))
    with _progress() as progress:
        asking = progress.add_task("Asking", total=len(numbers) or None)
        wanted = find_wanted(archive, query, lambda n, total: progress.update(asking, completed=n, total=total))
        progress.remove_task(asking)
        studies = wanted.studies[:limit]
        progress.console.print(f"{len(studies)} studies to fetch")
        fetching = progress.add_task("Fetching", total=len(studies))
        pulled = pull_studies(
            archive, studies, out, lambda n, total: progress.update(fetching, completed=n, total=total)
        )
    _report(wanted, pulled, out)
    if wanted.not_found or pulled.failed or pulled.unusable:
        raise typer.Exit(1)


class _Archive:
    """A `StudySource` as a pull sees it."""

    def __init__(self, source: "StudySource") -> None:
        self._source = source

    def find(self, where: "Mapping[str, str]", since: "date | None", until: "date | None") -> "list[Found]":
        return list(self._source.find(where, since, until))

    def fetch(self, study: str, receive: "Callable[[Arrived], None]", folder: Path) -> "Fetched":
        from mammoscope.network import Receipt

        def take(received: "ReceivedObject") -> Receipt:
            receive(received)
            return Receipt.STORED

        return self._source.fetch(study, take, folder)


def _report(wanted: "Wanted", pulled: "PulledStudies", out: Path) -> None:
    for accession in wanted.not_found:
        typer.echo(f"not found: {accession}", err=True)
    for study, reason in pulled.failed:
        typer.echo(f"not fetched: {study}: {reason}", err=True)
    for problem in pulled.unusable:
        typer.echo(f"left out: {problem}", err=True)
    counts = [
        (len(wanted.not_found), "accession numbers not found"),
        (pulled.known, "studies here already"),
        (pulled.empty, "studies without a mammogram"),
        (pulled.others, "objects that are no mammograms left out"),
        (pulled.not_sent, "objects that the archive did not send"),
        (len(pulled.failed) + pulled.untried, "studies not fetched: give the same command again"),
    ]
    typer.echo(
        "; ".join(
            [f"{pulled.studies} studies with {pulled.images} mammograms fetched"]
            + [f"{count} {what}" for count, what in counts if count]
        )
    )
    if (out / "annotations.json").is_file():
        typer.echo(f"Data set in {out}, not de-identified; look at it with: mammoscope dataset show {out}")


def _peer(kind: str, address: str, token_file: Path | None, *, tls: bool) -> "Peer":
    from mammoscope.network import DimsePeer, WebPeer

    if kind == "dicomweb":
        if not re.fullmatch(r"https?://[^/\s]+.*", address):
            raise MammoscopeError(
                f"--from dicomweb {address}: that is no address; write for example https://pacs/dicom-web"
            )
        return WebPeer("the archive", address, _text(token_file).strip() if token_file else None)
    if kind != "dimse":
        raise MammoscopeError(f"--from {kind}: an archive speaks dicomweb or dimse")
    parts = _DIMSE.fullmatch(address)
    if parts is None or not 0 < int(parts["port"]) < 65536:
        raise MammoscopeError(f"--from dimse {address}: write AET@HOST:PORT, for example PACS@10.0.0.5:104")
    return DimsePeer("the archive", parts["title"].strip(), parts["host"].strip("[]"), int(parts["port"]), tls)


def _tls(files: tuple[Path, Path, Path] | None) -> "TLSConfig | None":
    from mammoscope.network import TLSConfig

    return TLSConfig(*files) if files else None


def _condition(text: str) -> tuple[str, str]:
    keyword, equals, value = text.partition("=")
    if not (keyword and equals):
        raise MammoscopeError(
            f"--where {text} says nothing: write it as KEYWORD=VALUE, for example ModalitiesInStudy=MG"
        )
    return keyword.strip(), value.strip()


def _accession_numbers(path: Path) -> tuple[str, ...]:
    numbers: dict[str, None] = {}
    for line, text in enumerate(_text(path).splitlines(), start=1):
        number = text.strip()
        if len(number) > _LONGEST_ACCESSION or set(number) & set("*?\\\t,;"):
            raise MammoscopeError(
                f"{path}, line {line} is no accession number: one a line, at most {_LONGEST_ACCESSION} characters, "
                "without wildcards"
            )
        if number:
            numbers[number] = None
    if not numbers:
        raise MammoscopeError(f"{path} holds no accession numbers: write one a line")
    return tuple(numbers)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MammoscopeError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MammoscopeError(f"{path} is no text in UTF-8: save it so") from None


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal)


_SHOWN = 10


def deidentify(
    source: Annotated[Path, typer.Argument(help="A DICOM file, or a folder of them.", metavar="IN")],
    out: Annotated[Path, typer.Argument(help="Folder for the de-identified files.", metavar="OUT")],
    keys: Annotated[Path, typer.Option(help="The key file; made if it is not there. Keep it apart, and a copy of it.")],
    keep: Annotated[
        str, typer.Option(help="What else is kept, separated by commas: dates-shifted, device, patient.")
    ] = "",
    allow_burned_in: Annotated[
        bool, typer.Option("--allow-burned-in", help="Write images that may have text burned in as well.")
    ] = False,
) -> None:
    """De-identify DICOM images (PS3.15 Annex E); the key file says who is who. Text in the picture is not removed."""
    from mammoscope.datasets.deidentification import Keep
    from mammoscope.datasets.deidentification import deidentify as deidentify_files

    chosen = [word.strip() for word in keep.split(",") if word.strip()]
    if wrong := [word for word in chosen if word not in list(Keep)]:
        raise MammoscopeError(f"--keep {wrong[0]}: choose from {', '.join(Keep)}.")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("de-identifying", total=None)
        done = deidentify_files(
            source, out, keys, map(Keep, chosen), allow_burned_in=allow_burned_in,
            progress=lambda n, total: progress.update(task, completed=n, total=total),
        )  # fmt: skip
    again = f"; {done.again} were there already" if done.again else ""
    typer.echo(f"{done.written} images of {len(done.patients)} patients written to {out}{again}.")
    for path, reason in done.left_out[:_SHOWN]:
        typer.echo(f"Left out: {path}: {reason}.", err=True)
    if len(done.left_out) > _SHOWN:
        typer.echo(f"Left out: {len(done.left_out) - _SHOWN} more.", err=True)
    if done.held_back:
        number = (
            f"{len(done.held_back)} of the images" if allow_burned_in else f"Held back: {len(done.held_back)} images"
        )
        then = ", written all the same." if allow_burned_in else f"; look at them: {done.page_path}"
        typer.echo(f"{number} may have text burned in{then}", err=True)
    if done.left_out or (done.held_back and not allow_burned_in):
        raise typer.Exit(1)
