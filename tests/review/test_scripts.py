"""The pages' scripts: TypeScript finds nothing wrong with them, and the OpenLayers beside them is the locked one."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.validators]


@pytest.fixture(scope="module")
def tool(root: Path) -> ModuleType:
    """`tools/reading_room_scripts.py`, with what it needs fetched."""
    spec = importlib.util.spec_from_file_location("reading_room_scripts", root / "tools" / "reading_room_scripts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    try:
        module.packages(npm)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"TypeScript cannot be fetched ({type(error).__name__})")
    return module


def test_the_types_of_the_scripts_are_right_and_a_wrong_one_is_told(tool: ModuleType, tmp_path: Path):
    assert tool.type_errors("npm") == ""
    wrong = tmp_path / "static"
    shutil.copytree(tool.STATIC, wrong)
    script = wrong / "heat_map.js"
    script.write_text(script.read_text().replace("view.showHeat(answer)", "view.showHeat(3)"))
    assert "heat_map.js" in tool.type_errors("npm", wrong)


def test_the_bundle_is_what_the_locked_packages_make(tool: ModuleType):
    assert tool.bundled("npm") == tool.BUNDLE.read_bytes(), "run python tools/reading_room_scripts.py bundle"
