"""`mammoscope dataset card`: what a data set is, on one page."""

from pathlib import Path
from typing import Annotated

import typer

from mammoscope.errors import MammoscopeError


def card(
    folder: Annotated[Path, typer.Argument(help="The data set's folder.")],
    out: Annotated[Path, typer.Option(help="The file to write, .md or .html.")] = Path("card.md"),
) -> None:
    """Write a data card: counts, patients, views, sizes of lesions, density, pathology, splits, licence, citation."""
    from mammoscope.evaluation.dataset_card import card_html, card_markdown, dataset_card

    writers = {".md": card_markdown, ".html": card_html}
    if out.suffix not in writers:
        raise MammoscopeError(f"--out {out}: a card is written as .md or .html.")
    text = writers[out.suffix](dataset_card(folder))
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MammoscopeError(f"{out} cannot be written: {error.strerror}.") from None
    typer.echo(f"Card: {out}")
