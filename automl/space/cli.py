"""`automl space show | sample | check`: look at a search space, draw from it, check a configuration against it."""

from __future__ import annotations

import copy
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from automl.documents import load_object
from automl.errors import UserError
from automl.space.leaf import short

if TYPE_CHECKING:
    from rich.console import Console

    from automl.request import RunRequest
    from automl.space import SearchSpace

NARROW = 140  # columns: below, a table would fold names

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

SCHEMA = typer.Option(None, "--schema", help="A train schema, in TAO's dialect or standard JSON Schema.")
MODEL = typer.Option(None, "--model", help="Installed name, or a model folder; default: the one there is.")
PRESET = typer.Option(None, "--preset", help="Named settings of the model, under the spec file.")
SPEC = typer.Option(None, "--spec", "-e", help="Spec file, whole or in part; `search:` narrows the space.")
TUNE = typer.Option(None, "--tune", help="NAME, NAME=low:high[:log] or NAME=a,b,c; repeatable.")
FIX = typer.Option(None, "--fix", help="NAME=VALUE: do not search it; repeatable.")
SPACE = typer.Option("tao", "--space", help="tao (what the schema flags), recommended (the model's), all.")


def read_space(
    schema: str | None, model: str | None, spec: str | None, tune: list[str] | None, fix: list[str] | None,
    group: str = "tao", preset: str | None = None,
) -> SearchSpace:  # fmt: skip
    """The space that the options describe, around a spec that a run would take. Raises `UserError` naming the file."""
    from automl.request import RunRequest

    if schema and model:
        raise UserError("give --schema FILE or --model NAME, not both")
    if schema and preset:
        raise UserError(f"--preset {preset} is a model's; give --model NAME, not --schema")
    asked = RunRequest(
        model or "", spec_file=spec, tune=tuple(tune or ()), fix=tuple(fix or ()), space=group, preset=preset
    )
    return _of_schema(schema, asked) if schema else _of_model(model, asked)


def _of_model(name: str | None, asked: RunRequest) -> SearchSpace:
    from automl import bundle, plan

    model = bundle.resolve(name)
    merged, engine_keys = plan.merge(asked, model)
    plan.check_merged(merged, model)
    with _of(f"model {model.name}"):
        space = plan.compile_for(model, merged.spec, asked, engine_keys, {}, searching=True)
    return _agreed(space, engine_keys, asked)


def _refused(
    space: SearchSpace, given: Mapping[str, Any], name: str | None, spec_file: str | None, preset: str | None
) -> list[str]:
    """What the model itself has against a configuration that its schema allows."""
    from automl import bundle, hooks, plan
    from automl.request import RunRequest
    from automl.spec import leaves

    model = bundle.resolve(name)
    merged, _ = plan.merge(RunRequest(name or "", spec_file=spec_file, preset=preset), model)
    params = dict(leaves(given, known={leaf.name: leaf for leaf in space.leaves}))
    try:
        hooks.check_spec(model, space.apply(merged.spec, params))
    except UserError as error:
        return str(error).splitlines()
    return []


def _of_schema(path: str, asked: RunRequest) -> SearchSpace:
    from automl import spec as specs
    from automl.space import compile_space, load_schema
    from automl.space.chosen import ACTIONS

    document = load_schema(path)
    given = specs.load(Path(asked.spec_file)) if asked.spec_file else {}
    own = document.get("properties") or {}
    engine_keys = {key: given.pop(key) for key in specs.ENGINE_KEYS if key in given and key not in own}
    # Sections of other actions, as TAO's files have them: their schemas are not given with the train schema.
    given = {key: value for key, value in given.items() if key in own or key not in ACTIONS}
    with _of(path):
        base = specs.SourcedSpec(specs.defaults(document) if given else {})
    template = copy.deepcopy(base.spec)
    base.overlay(given, str(asked.spec_file))
    specs.validate(base.spec, document, base.sources, template, specs.ENGINE_KEYS)
    with _of(path):
        space = compile_space(
            document, base.spec or None, tune=asked.tune, fix=asked.fix, search=engine_keys.get("search"),
            group=asked.space,
        )  # fmt: skip
    return _agreed(space, engine_keys, asked)


def _agreed(space: SearchSpace, engine_keys: Mapping[str, Any], asked: RunRequest) -> SearchSpace:
    """The space, where a run would take the spec file's other words to the engine too."""
    from automl import front, plan, policy

    word = engine_keys.get("automl_policy")
    if word is not None and not policy.parse(word, str(asked.spec_file)):
        return space  # a run passes them over
    front.named(asked, engine_keys)
    plan.check_tries(engine_keys.get("try"), space.widest)
    return space


@contextmanager
def _of(source: str) -> Iterator[None]:
    """Name in errors what they are about."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{source}: {error}") from None


def print_space(console: Console, space: SearchSpace, room: SearchSpace) -> None:
    """What is searched, as a table where there is width for one, else as two lines or more a parameter; how far `room`
    lets trials leave a range; what is left out and why; the notes."""
    from rich.table import Table

    from automl.space.space import reach

    beyond = {name: f"fgp may go on to {p.codec.text}" for name, p in reach(space, room).items()}

    table = Table(title="Search space", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for name in ("parameter", "kind", "range", "scale", "default", "condition", "why"):
        table.add_column(name, no_wrap=name == "parameter", overflow="fold")
    lines = ["Search space"]
    for p in space.parameters:
        text, scale, default = p.codec.text, p.scale if p.kind in ("int", "float") else "", short(p.default)
        why = "; ".join(filter(None, (p.why, beyond.get(p.name))))
        table.add_row(p.name, p.kind, text, scale, default, p.condition, why)
        lines += [f"{p.name}  ({p.kind})", f"  {text}{scale and ' '}{scale}, default {default}"]
        lines += [f"  {said}" for said in (p.condition, why) if said]
    if console.width >= NARROW:
        console.print(table)
        lines = []
    lines = [part for line in lines for part in textwrap.wrap(line, console.width, subsequent_indent="    ")]
    lines += [f"left out: {name}: {reason}" for name, reason in space.left_out]
    for line in [*lines, *(f"note: {note}" for note in space.notes)]:
        console.print(line, highlight=False, markup=False)


@app.command(epilog="Example: automl space show --space recommended")
def show(
    schema: str = SCHEMA, model: str = MODEL, spec: str = SPEC, tune: list[str] = TUNE, fix: list[str] = FIX,
    space: str = SPACE, preset: str = PRESET, as_json: bool = typer.Option(False, "--json", help="As one JSON object."),
) -> None:  # fmt: skip
    """Show what is searched, where, on which scale and why; what is left out, and why."""
    found = read_space(schema, model, spec, tune, fix, space, preset)
    if as_json:
        from automl.space import to_record

        print(json.dumps(to_record(found, found.widest), indent=1, default=str))
        return
    from rich.console import Console

    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 200)
    print_space(console, found, found.widest)


@app.command(epilog="Example: automl space sample --schema train.schema.json -n 100 --seed 7")
def sample(
    schema: str = SCHEMA, model: str = MODEL, spec: str = SPEC, tune: list[str] = TUNE, fix: list[str] = FIX,
    space: str = SPACE, preset: str = PRESET,
    count: int = typer.Option(1, "-n", "--count", min=0, max=1_000_000, help="How many configurations."),
    seed: int = typer.Option(0, "--seed", min=0, help="The same seed draws the same."),
    prior: bool = typer.Option(False, "--prior", help="Draw around the default instead of uniformly."),
) -> None:  # fmt: skip
    """Draw configurations: one JSON object of {dotted name: value} per line."""
    for params in read_space(schema, model, spec, tune, fix, space, preset).sample(count, seed, prior):
        print(json.dumps(params))


@app.command(epilog="Example: automl space check --schema train.schema.json config.json")
def check(
    config: Path = typer.Argument(..., help="JSON: {dotted name: value}, or nested; - reads standard input."),
    schema: str = SCHEMA, model: str = MODEL, spec: str = SPEC, tune: list[str] = TUNE, fix: list[str] = FIX,
    space: str = SPACE, preset: str = PRESET,
) -> None:  # fmt: skip
    """Check a configuration; every violation is printed, and then the exit code is 2."""
    found = read_space(schema, model, spec, tune, fix, space, preset)
    given = load_object(config, "a configuration")
    problems = found.validate(given) or ([] if schema else _refused(found, given, model, spec, preset))
    for problem in problems:
        print(f"{config}: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(2)
    print(f"{config}: valid")
