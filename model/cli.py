"""`deformable_detr <action> -e spec.yaml key=value ...`: parses, then calls one function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from model.errors import ModelError, UserError
from model.parameters import ACTIONS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Train, evaluate and deploy a Deformable DETR.",
    epilog="Example: deformable_detr train -e spec.yaml train.num_epochs=12 results_dir=results/a",
)
RUNS = ("inference", "evaluate")  # what may be started from a model file alone
PURPOSE = {
    "train": "Train one spec.",
    "evaluate": "Score a checkpoint, ONNX file or engine on the test set.",
    "inference": "Detect objects in images: annotated pictures and label files.",
    "export": "Write a checkpoint as ONNX.",
    "quantize": "Shrink a checkpoint or ONNX file to 8-bit weights.",
    "gen_trt_engine": "Build a TensorRT engine from ONNX.",
}


def _add_action(action: str) -> None:
    def command(
        spec: Path = typer.Option(None, "-e", "--experiment", help="Spec file (YAML)."),
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
        from model.spec import load, resolve

        overrides = given(action, words or [], checkpoint)
        if spec is None and checkpoint is None:
            raise UserError(f"deformable_detr {action} needs a spec file: -e SPEC.yaml")
        resolved = (
            load(action, spec, overrides) if spec else resolve(action, nested(overrides), "command line")
        )
        import_module(f"model.actions.{action}").run(resolved)

    epilog = (
        f"Example: deformable_detr {action} -e references/spec_template_{action}.yaml results_dir=results/a"
    )
    app.command(action, help=PURPOSE[action], epilog=epilog)(command)


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


def nested(leaves: dict[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` -> {"a": {"b": 1}}."""
    from model.spec import put

    document: dict[str, Any] = {}
    for name, value in leaves.items():
        put(document, name, value)
    return document


for _action in ACTIONS:
    _add_action(_action)


@app.command("default_specs")
def default_specs(folder: Path = typer.Argument(Path("specs"), help="Where the templates go.")) -> None:
    """Write each action's spec with every parameter at its default."""
    from model.generate import template

    folder.mkdir(parents=True, exist_ok=True)
    for action in ACTIONS:
        (folder / f"{action}.yaml").write_text(template(action))
    print(f"wrote {len(ACTIONS)} specs to {folder}; next: deformable_detr train -e {folder / 'train.yaml'}")


@app.command(
    "convert", epilog="Example: deformable_detr convert kitti/training data; then automl run --data data"
)
def convert(
    source: str = typer.Argument(
        ..., help="Folder, archive or URL with image_2/ and label_2/, at any depth."
    ),
    target: Path = typer.Argument(..., help="New folder for train/ and val/."),
    val_share: float = typer.Option(0.2, help="Share of the images held out for validation; 0: none."),
    seed: int = typer.Option(0, help="Draws which."),
    by_sequence: bool = typer.Option(
        False, help="Hold out whole sequences: their frames resemble each other."
    ),
    classes: Path = typer.Option(
        None, help="YAML or JSON, {KITTI type: class}; types not named are left out."
    ),
    image_dir: str = typer.Option("", help="Name of the image folders, when it is another."),
    label_dir: str = typer.Option("", help="Name of the label folders, when it is another."),
) -> None:
    """Turn KITTI labels into a COCO dataset."""
    from model.actions.convert import convert as run

    found = run(source, target, val_share, seed, by_sequence, classes, image_dir, label_dir)
    left_out = ", ".join(f"{count} {kind}" for kind, count in found["left_out"].items())
    print(f"{found['train']} training and {found['val']} validation images in {target}")
    print(f"classes: {', '.join(f'{i} {name}' for name, i in found['classes'].items())}")
    print(f"left out: {left_out or 'nothing'}; next: automl run --model deformable_detr --data {target}")


@app.command("info")
def info() -> None:
    """Versions, devices, and which attention path is live."""
    import_module("model.info").main()


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """`["a.b=1", "c=[1, 2]"]` -> {"a.b": 1, "c": [1, 2]}; values are YAML. Raises `UserError` without a `=`."""
    import yaml

    parsed = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise UserError(f"an override must be KEY=VALUE, but got '{pair}'")
        try:
            parsed[name.strip()] = yaml.safe_load(text) if text else ""
        except yaml.YAMLError:
            raise UserError(f"the value of {name} must be YAML, but got '{text}'") from None
        if isinstance(parsed[name.strip()], str):
            parsed[name.strip()] = _number(parsed[name.strip()])
    return parsed


def _number(text: str) -> Any:
    """YAML 1.1 reads 1e-4 as a string; a person means the number."""
    try:
        return float(text) if "e" in text.lower() else text
    except ValueError:
        return text


def guarded(run: Callable[[], Any]) -> int:
    """Call `run`; an error of ours becomes one message on stderr and its exit code."""
    try:
        run()
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def main() -> None:
    sys.exit(guarded(app))


if __name__ == "__main__":
    main()
