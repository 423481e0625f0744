"""`automl run | plan | resume | status | best | report | dashboard | space`: parses, then calls one function."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from automl import __version__, faults
from automl.errors import AutoMLError, UserError
from automl.interruption import Interrupted
from automl.request import RunRequest, options, parse_time

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn a dataset into the best model that a compute budget buys.",
    epilog="Example: automl run --data data/ --time 12h",
)

RUN_DIR = typer.Argument(..., help="A run folder.")
MODEL_OPTIONS = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
}  # a model may add options of its own


def _print_version(asked: bool) -> None:
    if asked:
        print(f"automl {__version__}")
        raise typer.Exit


@app.callback()
def engine(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    pass


def _with_options(command: Callable[..., None], *more: inspect.Parameter) -> Callable[..., None]:
    """The command with the fields of `RunRequest` as its options, and `more`."""
    kinds: dict[type, Any] = {list: list[str]}
    found = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context), *more]
    for each in options():
        spelled = each.metadata["option"]
        default = each.default if each.default != () and spelled.read is None else None
        made = typer.Option(
            default, *spelled.flags, help=spelled.help, rich_help_panel=spelled.panel, min=spelled.low,
            envvar=spelled.env,
        )  # fmt: skip
        kind = kinds.get(spelled.kind, spelled.kind)
        found.append(
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=made, annotation=kind)
        )
    command.__signature__ = inspect.Signature(found)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in found}
    return command


def run(context: typer.Context, **given: Any) -> None:
    """Search, and hand the winner over ready to deploy."""
    from automl import bundle, loop
    from automl.progress import Progress

    request = make_request(context, given)
    name = Path(bundle.resolve(request.model).name).name
    root = Path(request.results_dir or Path("results") / name / time.strftime("%Y%m%d-%H%M%S"))
    console = _console()
    console.print(f"run folder: {root}")
    _finish(console, loop.run(request, root, Progress(console)))


def plan(context: typer.Context, configurations: int, as_json: bool, **given: Any) -> None:
    """Show what run would do: data, space, first configurations, time. Trains nothing."""
    import tempfile

    from automl import plan_json, show
    from automl.plan import prepare

    request = make_request(context, given)
    with tempfile.TemporaryDirectory(prefix="automl-plan-") as folder:
        prepared = prepare(request, Path(folder))
        if as_json:
            print(plan_json.text(prepared, configurations))
        else:
            show.plan(_console(), prepared, configurations)


_SHOWN = inspect.Parameter(
    "configurations", inspect.Parameter.KEYWORD_ONLY, annotation=int,
    default=typer.Option(4, "--show", min=1, help="First configurations to show."),
)  # fmt: skip
_JSON = inspect.Parameter(
    "as_json", inspect.Parameter.KEYWORD_ONLY, annotation=bool,
    default=typer.Option(False, "--json", help="The whole plan as one JSON object."),
)  # fmt: skip
app.command(epilog="Example: automl run --data data/ --trials 12 --time 1h", context_settings=MODEL_OPTIONS)(
    _with_options(run)
)
app.command(epilog="Example: automl plan --demo", context_settings=MODEL_OPTIONS)(
    _with_options(plan, _SHOWN, _JSON)
)


@app.command(epilog="Example: automl data data/ --out data.html")
def data(
    place: str = typer.Argument(..., metavar="DATA", help="The dataset, as the model reads it."),
    model: str = typer.Option(None, "--model", help="Installed name, or a model folder."),
    spec: str = typer.Option(None, "--spec", "-e", help="Spec file (YAML)."),
    preset: str = typer.Option(None, "--preset", help="Named settings of the model, under the spec file."),
    sets: list[str] = typer.Option(None, "--set", help="KEY=VALUE of the spec; repeatable."),
    out: Path = typer.Option("data.html", "--out", help="The page to write."),
) -> None:
    """Write a page with a picture of a dataset: counts, sizes, problems, samples."""
    import tempfile

    from automl import bundle
    from automl.plan import merge

    request = RunRequest(model=model, data=place, spec_file=spec, preset=preset, sets=tuple(sets or ()))
    found = bundle.resolve(request.model)
    draw = found.call("picture")
    if draw is None:
        raise UserError(f"{found.name} draws no picture of data")
    with tempfile.TemporaryDirectory(prefix="automl-data-") as folder:
        lines = draw(merge(request, found)[0].spec, place, out, work_dir=Path(folder))
    for line in lines:
        print(f"note: {line}")
    print(f"wrote {out}")


@app.command(epilog="Example: automl resume results/model/20260101-120000 --trials 40")
def resume(
    run_dir: Path = RUN_DIR,
    trials: int = typer.Option(None, "--trials", min=1, help="New total of trials."),
    epochs: int = typer.Option(None, "--epochs", min=1, help="New total of training epochs."),
    limit: str = typer.Option(None, "--time", help="New total of search time."),
) -> None:
    """Go on with a run: after a crash, a reboot, or with a larger budget."""
    from automl import loop
    from automl.progress import Progress

    changes: dict[str, Any] = {
        "trials": trials,
        "epochs": epochs,
        "time_s": parse_time(limit) if limit else None,
    }
    console = _console()
    wanted = {k: v for k, v in changes.items() if v is not None}
    _finish(console, loop.resume(run_dir, wanted, Progress(console)))


@app.command(epilog="Example: automl status results/model/20260101-120000")
def status(run_dir: Path = RUN_DIR) -> None:
    """Every trial of a run: state, epochs, best metric, why it ended."""
    from automl import show

    show.status(_console(), run_dir)


@app.command(epilog="Example: automl best results/model/20260101-120000")
def best(run_dir: Path = RUN_DIR) -> None:
    """The winner of a run so far: its metric, what it changed, its files."""
    from automl import show

    show.best(_console(), run_dir)


@app.command(epilog="Example: automl report results/model/20260101-120000")
def report(run_dir: Path = RUN_DIR) -> None:
    """Write report.html: curves, importances, every trial."""
    from automl import report as reports

    print(f"wrote {reports.write(run_dir)}")


@app.command(epilog="Example: automl dashboard results/model/20260101-120000 --port 8080")
def dashboard(
    run_dir: Path = RUN_DIR,
    port: int = typer.Option(8080, "--port", min=0, max=65535, help="On 127.0.0.1; 0: any."),
) -> None:
    """Open the Optuna dashboard on a run, on this machine only."""
    from automl import dashboard as dashboards

    dashboards.serve(run_dir, port)


def make_request(context: typer.Context, given: dict[str, Any]) -> RunRequest:
    """The command line as a RunRequest; options of the model's own become `--set` pairs, under those given. Raises
    `UserError` for what typer cannot check."""
    request = RunRequest.from_options(given)
    if not context.args:
        return request
    from automl import bundle

    known = {flag for parameter in context.command.params for flag in parameter.opts}
    pairs = bundle.resolve(request.model).set_pairs(context.args, known)
    return replace(request, sets=(*pairs, *request.sets))


def _finish(console: Console, outcome: Any) -> None:
    """Show how a run ended; a stage that failed makes the exit code 1."""
    from automl import show

    show.outcome(console, outcome)
    if any(stage.failed for stage in outcome.stages):
        raise typer.Exit(1)


def _console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=not sys.stdout.isatty(), markup=False, highlight=False)


def guarded(run: Callable[[], Any]) -> int:
    """Call `run`; an error of ours becomes one message on stderr and its exit code, and nothing is lost."""
    try:
        run()
    except AutoMLError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        known = (
            error if hasattr(error, "exit_code") else faults.told(error)
        )  # the model's own errors carry one too
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr)
        return int(known.exit_code)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _mount_space() -> None:
    from automl.space.cli import app as space_app

    app.add_typer(space_app, name="space", help="Show, sample and check a search space.")


def main() -> None:
    _mount_space()
    sys.exit(guarded(app))


if __name__ == "__main__":
    main()
