"""`mammoscope model-card`: what a model is, what it reached and what it is not good for, on one page."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mammoscope.errors import MammoscopeError

_OF_THE_SPEED = {"model", "version", "threads", "repeats", "peer", "rows"}


def model_card(
    results: Annotated[Path, typer.Argument(help="The folder that 'mammoscope evaluate' made, or its metrics.json.")],
    out: Annotated[Path, typer.Option(help="The Markdown file to write.")] = Path("model.md"),
    bundle: Annotated[Path | None, typer.Option(help="The bundle; the shipped one by default.")] = None,
    run: Annotated[Path | None, typer.Option(help="Its run, for a bundle that does not hold its recipe.")] = None,
    speed: Annotated[Path | None, typer.Option(help="What 'benchmarks/latency.py --out' wrote.")] = None,
    caveats: Annotated[Path | None, typer.Option(help="Markdown list of what else a user has to know.")] = None,
) -> None:
    """Write a bundle's model card (Mitchell et al. 2019) from its figures; no number in it is typed by hand."""
    from mammoscope.evaluation import model_card_markdown, read_metrics, read_run
    from mammoscope.inference import Bundle

    opened = Bundle.open(bundle)
    text = model_card_markdown(
        opened.metadata,
        read_metrics(results),
        megabytes=opened.path.stat().st_size / 1e6,
        recipe=None if run is None else read_run(run).recipe,
        speed=None if speed is None else _speed(speed),
        caveats="" if caveats is None else _text(caveats),
    )
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None
    typer.echo(f"Model card: {out}")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise MammoscopeError(f"{file} cannot be read as text: give a Markdown file.") from None


def _speed(file: Path) -> dict[str, Any]:
    try:
        measured: dict[str, Any] = json.loads(_text(file))
    except ValueError:
        raise MammoscopeError(f"{file} does not hold times: make it with 'benchmarks/latency.py --out'.") from None
    if not isinstance(measured, dict) or not measured.keys() >= _OF_THE_SPEED:
        raise MammoscopeError(f"{file} does not hold times: make it with 'benchmarks/latency.py --out'.")
    return measured
