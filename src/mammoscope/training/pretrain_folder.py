"""The folder of a pretraining: which recipe and data it is of."""

import json
from typing import Any

import torch

from mammoscope import __version__
from mammoscope.training.checkpoint import RunFolder, write_atomically
from mammoscope.training.errors import TrainingError
from mammoscope.training.pretrain_recipe import PretrainRecipe

_RECIPE = "pretrain.json"


def open_folder(recipe: PretrainRecipe, fingerprint: str) -> RunFolder:
    """The folder of a pretraining, new or to be gone on with; its checkpoints and curves are as a training's.

    Raises
    ------
    TrainingError
        If it holds a run of another recipe or on other data, or cannot be written. Of ``run``, only the seed makes
        another recipe.
    """
    folder = RunFolder(recipe.run_folder)
    file = folder.path / _RECIPE
    described = {
        "recipe": recipe.model_dump(mode="json"),
        "data_fingerprint": fingerprint,
        "mammoscope": __version__,
        "torch": torch.__version__,
    }
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            same = _what_decides(before) == _what_decides(described)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{file} is damaged: give run.folder another name") from error
        if not same:
            raise TrainingError(
                f"{folder.path} holds a pretraining by another recipe or on other data: give run.folder another name, "
                "or delete that folder to start anew"
            )
        return folder
    if folder.has_checkpoint:
        raise TrainingError(f"{folder.path} is the folder of another run: give run.folder another name")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(described, indent=2).encode())
    except OSError as error:
        raise TrainingError(
            f"the run's folder {folder.path} cannot be written: {error.strerror}; give run.folder another name"
        ) from error
    return folder


def log(folder: RunFolder, record: dict[str, Any]) -> None:
    """Add a line to the curves (``curves.jsonl``)."""
    try:
        with (folder.path / "curves.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
    except OSError as error:
        raise TrainingError(
            f"the curves of {folder.path} could not be written ({error.strerror}): the last checkpoint is safe; free "
            "disk space and start the same command again"
        ) from error


def _what_decides(described: dict[str, Any]) -> list[Any]:
    recipe = {**described["recipe"], "run": described["recipe"]["run"]["seed"]}
    return [recipe, described["data_fingerprint"]]
