"""`deformable_detr <action> -e spec.yaml key=value ...`: parses, then calls one function."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

import standard_streams
from model.errors import FULL, ModelError, UserError
from model.parameters import ACTIONS, VAL_SHARE
from model.programs import typed
from model.told import told

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Train, evaluate and deploy a Deformable DETR.",
    epilog="Example: deformable_detr train -e spec.yaml train.num_epochs=12 results_dir=results/a",
)
RUNS = ("inference", "evaluate")  # what may be started from a model file alone
WHOLE = ("export", "quantize", "gen_trt_engine")  # actions without parts that could be counted
PURPOSE = {
    "train": "Train one spec.",
    "evaluate": "Score a checkpoint, ONNX file or engine on the test set.",
    "inference": "Detect objects in images: annotated pictures and label files.",
    "export": "Write a checkpoint as ONNX.",
    "quantize": "Shrink a checkpoint or ONNX file to 8-bit weights.",
    "gen_trt_engine": "Build a TensorRT engine from ONNX.",
    "deploy": "Measure smaller and faster forms of a checkpoint, and export the one that fits.",
}


def _add_action(action: str) -> None:
    def command(
        spec: Path = typer.Option(
            None, "-e", "--experiment", help="Spec file (YAML); default: what a model file says."
        ),
        checkpoint: str = typer.Option(
            None, help="Model file to run; an .onnx file needs no spec.", hidden=action not in RUNS
        ),
        words: list[str] = typer.Argument(
            None,
            metavar="KEY=VALUE ..." if action != "inference" else "[IMAGE_OR_FOLDER | KEY=VALUE] ...",
            help="Leaves that replace the file's."
            if action != "inference"
            else "Images, and leaves to replace.",
        ),
    ) -> None:
        from model.spec_file import load

        overrides = given(action, words or [], checkpoint)
        if spec is None and checkpoint is None and not overrides:
            raise UserError(f"deformable_detr {action} needs a spec file: -e SPEC.yaml, or KEY=VALUE leaves")
        resolved = load(action, spec, overrides)
        if action == "train":
            _fetch_start(resolved)
        standard_streams.go_on_without()
        with told(action) if action in WHOLE else nullcontext():
            import_module(f"model.actions.{action}").run(resolved)

    epilog = (
        f"Example: deformable_detr {action} -e references/spec_template_{action}.yaml results_dir=results/a"
    )
    app.command(action, help=PURPOSE[action], epilog=epilog)(command)


def _fetch_start(spec: dict[str, Any]) -> None:
    """What the training starts from, brought here before it begins."""
    from model import start
    from model.spec import put

    for name, value in start.fetch(spec).items():
        put(spec, name, value)


def given(action: str, words: list[str], checkpoint: str | None = None) -> dict[str, Any]:
    """The leaves {dotted name: value} that a command line sets; words of inference that are no KEY=VALUE, or that
    name something on disk, are images. Raises `UserError` for what is neither."""
    images = [w for w in words if action == "inference" and ("=" not in w or Path(w).exists())]
    leaves = parse_overrides([w for w in words if w not in images])
    if images:
        leaves["dataset.infer_data_sources.image_dir"] = images
    if checkpoint and action not in RUNS:
        raise UserError(f"deformable_detr {action} has no --checkpoint; it is for {' and '.join(RUNS)}")
    if checkpoint:
        leaves[f"{action}.checkpoint"] = checkpoint
    return leaves


for _action in ACTIONS:
    _add_action(_action)


@app.command("default_specs")
def default_specs(folder: Path = typer.Argument(Path("specs"), help="Where the templates go.")) -> None:
    """Write each action's spec with every parameter at its default."""
    from model.generate import template

    folder.mkdir(parents=True, exist_ok=True)
    for action in ACTIONS:
        (folder / f"{action}.yaml").write_text(template(action))
    words = shlex.join(["train", "-e", str(folder / "train.yaml")])
    print(f"wrote {len(ACTIONS)} specs to {folder}; next: {typed('deformable_detr')} {words}")


@app.command("convert", epilog="Example: deformable_detr convert export.zip data && automl run --data data")
def convert(
    source: str = typer.Argument(
        ..., help="Folder, archive, file or URL of a COCO, YOLO, Pascal VOC or KITTI dataset."
    ),
    target: Path = typer.Argument(..., help="New folder for train/, val/ and test/."),
    val_share: float = typer.Option(
        VAL_SHARE,
        min=0,
        max=0.99,
        help="Share of the images held out where there is no validation set; 0: none.",
    ),
    seed: int = typer.Option(0, help="Draws which."),
    by_sequence: bool = typer.Option(
        False, help="KITTI: hold out whole sequences (folders), as their frames resemble each other."
    ),
    classes: Path = typer.Option(
        None, help="KITTI: YAML or JSON, {type: class}; types not named are left out."
    ),
    image_dir: str = typer.Option("", help="KITTI: name of the image folders, when it is another."),
    label_dir: str = typer.Option("", help="KITTI: name of the label folders, when it is another."),
    overrides: list[str] = typer.Argument(
        None, metavar="KEY=VALUE ...", help="Leaves of the train spec, such as dataset.mended_share=0.2."
    ),
) -> None:
    """Turn a dataset into folders of COCO files and images; automl run reads them without, too."""
    from model.actions.export_dataset import write
    from model.data.convert_kitti import Options, read_classes

    kitti = None
    if by_sequence or classes or image_dir or label_dir:
        kitti = Options(read_classes(classes) if classes else None, image_dir, label_dir)
    leaves = parse_overrides(overrides or [])
    with told("convert", aside=True):
        found = write(source, target, val_share, seed, leaves, kitti, by_sequence)
    for note in (f"read as {found['layout']}", *found["notes"]):
        print(f"note: {note}")
    print(f"{', '.join(f'{count} {split}' for split, count in found['splits'].items())} images in {target}")
    print(f"classes: {', '.join(f'{i} {name}' for name, i in found['classes'].items())}")
    print(f"next: automl run --model deformable_detr --data {shlex.quote(str(target))}")


@app.command("fetch", epilog="Example: deformable_detr fetch imagenet model.backbone=resnet_18")
def fetch(
    what: str = typer.Argument(..., help="coco or imagenet."),
    overrides: list[str] = typer.Argument(
        None, metavar="KEY=VALUE ...", help="Leaves of the train spec that decide which weights fit."
    ),
) -> None:
    """Fetch published weights once, for every training of this machine."""
    from model import fetch
    from model.spec import nest

    fetch.named(what, nest(parse_overrides(overrides or [])), engine=False)


@app.command("info")
def info() -> None:
    """Versions, devices, and which attention path is live."""
    import_module("model.info").main()


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """`["a.b=1", "c=[1, 2]"]` -> {"a.b": 1, "c": [1, 2]}; values are YAML, but what begins with @, as nothing in
    YAML does, is text. Raises `UserError` without a `=`."""
    from safe_documents import DocumentError, read_yaml

    parsed = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.strip():
            removes = f"; ~ takes nothing out here: {pair[1:]}=VALUE gives it another value"
            raise UserError(
                f"an override must be KEY=VALUE, but got '{pair}'{removes * pair.startswith('~')}"
            )
        name = name.strip().lstrip("+")  # TAO's command line has +KEY and ++KEY for keys that a file lacks
        try:
            parsed[name] = read_yaml(text) if text and not text.startswith("@") else text
        except DocumentError as error:
            raise UserError(f"the value of {name} must be YAML, but got '{text[:80]}': {error}") from None
        if key := _unspaced(parsed[name]):
            raise UserError(
                f"the value of {name}: YAML wants a space after a colon, as in {{a: b}}, but got '{key}'"
            )
    return parsed


def _unspaced(value: Any) -> str:
    """A key such as `image_dir:/a`, which YAML takes for the whole of it where no space is after the colon."""
    if isinstance(value, dict):
        wrong = [key for key, inner in value.items() if inner is None and re.match(r"\w+:.", key)]
        return next(iter([*wrong, *filter(None, map(_unspaced, value.values()))]), "")
    return next(filter(None, map(_unspaced, value)), "") if isinstance(value, list) else ""


def guarded(run: Callable[[], Any]) -> int:
    """Call `run`; an error of ours, and a file or folder that cannot be had, becomes one message on stderr and an exit
    code."""
    try:
        run()
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        full = error.errno in FULL
        place = (full and error.filename2) or error.filename  # of a move it is the second that has no room
        if error.errno is None or (place is None and not full):
            raise
        where = "" if place is None else f"{os.fsdecode(place)}: "
        print(f"error: {where}{str(error.strerror).lower()}", file=sys.stderr)
        return UserError.exit_code
    except RuntimeError as error:
        if not isinstance(error.__cause__, KeyboardInterrupt):  # in a __set_name__, before Python 3.12
            raise
        print("interrupted", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as left:
        # Typer makes an exit of a Ctrl-C, and says nothing.
        if isinstance(getattr(left.__context__, "__cause__", None), KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
        raise
    return 0


def _in_a_folder() -> None:
    """Raises `UserError` where the current folder is gone: every path is made whole by it."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the current folder no longer exists ({error.strerror}): cd to another") from None


def _printed() -> None:
    """The command. Raises `ModelError` where what it is there to print did not get out."""
    try:
        app()
    except SystemExit as left:
        if not left.code and (why := standard_streams.unsaid()):
            raise ModelError(f"stdout cannot be written: {why}") from None
        raise


def main() -> None:
    standard_streams.guard()
    sys.exit(guarded(_in_a_folder) or guarded(_printed))


if __name__ == "__main__":
    main()
