"""What the documentation site takes from beside ``docs/``: READMEs, notebooks, decisions, and links to source files."""

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ("deploy/README.md", "recipes/README.md", "benchmarks/README.md", "examples/own_parts/README.md")
"""Pages that stand elsewhere in the repository, by their place there and on the site."""
_LINK = re.compile(r"(?<!\!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The decisions stand in the order of their numbers, the newest last, without being listed by hand."""
    records = sorted(path.name for path in (ROOT / "docs/decisions").glob("*.md"))
    explanation = next(
        part["Explanation"] for part in config.nav or [] if isinstance(part, dict) and "Explanation" in part
    )
    explanation.append({"Decisions": [f"decisions/{name}" for name in records]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the READMEs, and each notebook as a page."""
    for name in BESIDE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    for notebook in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        page = f"notebooks/{notebook.stem}.md"
        files.append(
            File.generated(config, page, content=_as_markdown(json.loads(notebook.read_text(encoding="utf-8"))))
        )
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Links that leave ``docs/`` lead to the page made of that file, or become the file's name; it has to exist."""
    folder = posixpath.dirname(page.file.src_uri)
    generated = page.file.src_uri in BESIDE

    def rewritten(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        if re.match(r"[a-z]+:", target):
            return found[0]
        in_repository = posixpath.normpath(posixpath.join(*(() if generated else ("docs",)), folder, target))
        on_site = in_repository.removeprefix("docs/")
        if files.get_file_from_path(on_site) is not None and (in_repository.startswith("docs/") or on_site in BESIDE):
            return f"[{text}]({posixpath.relpath(on_site, folder or '.')}{anchor})"
        if not (ROOT / in_repository).exists():
            raise PluginError(f"{page.file.src_uri}: there is no file {in_repository}, to which '{text}' leads.")
        return f"{text} (`{in_repository}`)" if text != in_repository else f"`{in_repository}`"

    return _LINK.sub(rewritten, markdown)


def _as_markdown(notebook: dict[str, Any]) -> str:
    """Text cells as they are, code cells fenced; outputs are made by whoever runs it."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"]).strip()
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"
