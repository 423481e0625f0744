"""`automl run | plan | fetch | resume | status | best | deploy | report | dashboard | space`: parses, then calls one function."""

from __future__ import annotations

import atexit
import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

import standard_streams
from automl import __version__, faults
from automl.errors import AutoMLError, StorageError, UserError
from automl.interruption import Interrupted, import_with_threads, no_more_signals
from automl.request import OF_DATA, OF_PAGE, RunRequest, options

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn a dataset into the best model that a compute budget buys.",
    epilog="Example: automl run --data data/ --time 12h",
)


def _no_option(path: Path) -> Path:
    """A folder as it can be typed in a command that is printed: one that begins with - would be taken for an option."""
    return path.absolute() if str(path).startswith("-") else path


RUN_DIR = typer.Argument(..., help="A run folder.", callback=_no_option)
AS_JSON = typer.Option(False, "--json", help="Its figures as one JSON object.")
MODEL_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}  # its own: skill_info's `options`
ALONE = ("data", "spec_file")  # given twice, these would not be merged
RESUMABLE = (
    "model",
    "data",
    "trials",
    "trainings",
    "total_epochs",
    "time_s",
    "patience",
    "confirm",
    "executor",
    "concurrency",
    "cpus_per_trial",
    "storage",
)  # may change then


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


def _with_options(
    command: Callable[..., None], *more: inspect.Parameter, only: tuple[str, ...]
) -> Callable[..., None]:
    """The command with `more` and the fields of `RunRequest`, or `only` some of them, as its options."""
    found = list(more)
    for each in options():
        spelled = each.metadata["option"]
        default = None if only or each.default == () or spelled.read else each.default
        made = typer.Option(
            default, *spelled.flags, help=spelled.help, rich_help_panel=spelled.panel, min=spelled.low,
            envvar=spelled.env,
        )  # fmt: skip
        kind: Any = list[str] if spelled.kind is list else spelled.kind
        if not only or each.name in only:
            found.append(_parameter(each.name, kind, made))
    command.__signature__ = inspect.Signature(found)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in found}
    return command


def _parameter(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def run(context: typer.Context, **given: Any) -> None:
    """Search, and hand the winner over ready to deploy."""
    standard_streams.go_on_without()
    import_with_threads()
    from automl import loop
    from automl.progress import Progress

    request = make_request(context, given)
    root = _no_option(loop.folder_for(request))
    console = _console()
    print(f"run folder: {root}")
    _finish(console, loop.run(request, root, Progress(console)))


def plan(context: typer.Context, configurations: int, as_json: bool, **given: Any) -> None:
    """Show what run would do: data, space, first configurations, time. Trains nothing."""
    import tempfile

    from automl import plan_json, show_plan
    from automl.plan import prepare

    request = make_request(context, given)
    with tempfile.TemporaryDirectory(prefix="automl-plan-") as folder:
        prepared = prepare(request, Path(folder))
        if as_json:
            print(plan_json.text(prepared, configurations))
        else:
            show_plan.plan(_console(), prepared, configurations)


def data(context: typer.Context, place: str, out: Path, **given: Any) -> None:
    """Write a page with a picture of a dataset, as run would train on it: counts, sizes, problems, samples."""
    from automl import data_page

    faults.check_place(out.absolute().parent, "--out")
    for line in data_page.write(make_request(context, given | {"data": place}), out):
        print(f"note: {line}")
    print(f"wrote {out}")


def fetch(context: typer.Context, what: str, **given: Any) -> None:
    """Fetch pretrained weights once, for every run of this machine."""
    from automl import bundle, spec
    from automl.plan import merge

    request = make_request(context, given)
    model = bundle.resolve(request.model)
    bring = model.call("fetch_named")
    if bring is None:
        raise UserError(f"{model.name} has nothing to fetch (its skill_info has no entry_points.fetch_named)")
    merged, _ = merge(request, model)
    bring(what, spec.nest({name: spec.get(merged.spec, name) for name in merged.sources}))


def resume(run_dir: Path, **given: Any) -> None:
    """Go on with a run: after a crash, a reboot, or with a larger budget. Budgets are new totals."""
    standard_streams.go_on_without()
    import_with_threads()
    from automl import loop
    from automl.progress import Progress

    console = _console()
    _finish(console, loop.resume(run_dir, RunRequest.changes(given), Progress(console)))


_CONTEXT = _parameter("context", typer.Context)
_SHOWN = typer.Option(4, "--show", min=1, help="First configurations to show.")
_JSON = typer.Option(False, "--json", help="The whole plan as one JSON object.")
_PLACE = typer.Argument(..., metavar="DATA", help="The dataset, as the model reads it.")
_PAGE = typer.Option("data.html", "--out", help="The page to write.")
_WEIGHTS = typer.Argument(..., help="The name of the weights.")


class _OfModel(TyperCommand):
    """A command that takes options of the model's own: its help names them, of the model asked for or installed."""

    def told(self) -> str:
        from automl import bundle

        words = [word for pair in sys.argv for word in pair.split("=", 1)]
        return bundle.resolve(dict(pairwise(words)).get("--model")).options_told()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raises `UserError` for a second dataset or spec file: of other options the last counts, these a person may
        take for both."""
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        for parameter, count in Counter(p for p in order if p.name in ALONE).items():
            if count > 1:
                raise UserError(f"{parameter.opts[0]} is given {count} times; give it once")
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with suppress(UserError):
            self.epilog = "\n\n".join(filter(None, (self.told(), self.epilog)))
        super().format_help(ctx, formatter)


class _OfRun(_OfModel):
    """The same for what takes a run, whose model it is then."""

    def told(self) -> str:
        from automl import deploy

        return deploy.options_told(sys.argv)


def _add(
    epilog: str, command: Callable[..., None], *more: inspect.Parameter, only: tuple[str, ...] = ()
) -> None:
    """A command that takes fields of `RunRequest`, and options of the model's own."""
    app.command(cls=_OfModel, epilog=f"Example: automl {epilog}", context_settings=MODEL_OPTIONS)(
        _with_options(command, _CONTEXT, *more, only=only)
    )


_add("run --data data/ --trials 12 --time 1h", run)
_add("plan --demo", plan, _parameter("configurations", int, _SHOWN), _parameter("as_json", bool, _JSON))
_add(
    "data data/ --out data.html",
    data,
    _parameter("place", str, _PLACE),
    _parameter("out", Path, _PAGE),
    only=OF_PAGE,
)
_add("fetch NAME --preset small", fetch, _parameter("what", str, _WEIGHTS), only=("data", "demo", *OF_DATA))
app.command(epilog="Example: automl resume results/model/20260101-120000 --trials 40")(
    _with_options(resume, _parameter("run_dir", Path, RUN_DIR), only=RESUMABLE)
)


@app.command(epilog="Example: automl status results/model/20260101-120000")
def status(run_dir: Path = RUN_DIR, as_json: bool = AS_JSON) -> None:
    """Every trial of a run: state, epochs, best metric, why it ended."""
    from automl import run_figures, show

    if as_json:
        print(run_figures.text(run_figures.status(run_dir)))
    else:
        show.status(_console(), run_dir)


@app.command(epilog="Example: automl best results/model/20260101-120000")
def best(
    run_dir: Path = RUN_DIR,
    as_json: bool = AS_JSON,
    export: bool = typer.Option(
        False, "--export", help="Hand it over, ready to deploy, also while the run goes on."
    ),
) -> None:
    """The winner of a run so far: its metric, what it changed, its files."""
    from automl import run_figures, show

    if as_json and export:
        raise UserError("--json shows what there is, --export makes something; give one of them")
    if as_json:
        print(run_figures.text(run_figures.best(run_dir)))
        return
    console = _console()
    if not export:
        show.best(console, run_dir)
        return
    from automl import export_best
    from automl.progress import Progress

    standard_streams.go_on_without()
    _finish(console, export_best.export(run_dir, Progress(console)))


@app.command(epilog="Example: automl report results/model/20260101-120000")
def report(
    run_dir: Path = RUN_DIR,
    as_json: bool = AS_JSON,
    out: Path | None = typer.Option(None, "--out", help="Another file to write; default: RUN/report.html."),
) -> None:
    """Write report.html: what was gained, pictures, every trial, what mattered."""
    from automl import report as reports
    from automl import run_figures

    if as_json and out is not None:
        raise UserError("--json prints the figures, --out names the page to write; give one of them")
    if as_json:
        print(run_figures.text(reports.figures(run_dir)))
    else:
        print(f"wrote {reports.write(run_dir, out=out)}")


@app.command(epilog="Example: automl dashboard results/model/20260101-120000 --port 8080")
def dashboard(
    run_dir: Path = RUN_DIR,
    port: int = typer.Option(8080, "--port", min=0, max=65535, help="On 127.0.0.1; 0: any."),
    write: bool = typer.Option(False, "--write", help="Let it change and delete studies."),
) -> None:
    """Open the Optuna dashboard on a run, on this machine only; for looking, unless --write is given."""
    from automl import dashboard as dashboards

    dashboards.serve(run_dir, port, write)


@app.command(
    cls=_OfRun,
    epilog="Example: automl deploy results/model/20260101-120000 --max-latency 15ms",
    context_settings=MODEL_OPTIONS,
)
def deploy(context: typer.Context, run_dir: Path = RUN_DIR) -> None:
    """Make of the winner what fits a device; the options are the model's (such as --target, --max-latency)."""
    from automl import deploy as deploying

    standard_streams.go_on_without()
    known = {flag for parameter in context.command.params for flag in parameter.opts}
    if code := deploying.run(run_dir, context.args, known, partial(print, flush=True)):
        raise typer.Exit(code)


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
    """Show how a run ended; a stage that failed makes the exit code 1, and so do all trials that began now."""
    from automl import show

    show.outcome(console, outcome)
    if any(stage.failed for stage in outcome.stages) or outcome.all_failed:
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
        if isinstance(error.__cause__, KeyboardInterrupt):  # in a __set_name__, before Python 3.12
            print("stopped", file=sys.stderr)
            return 130
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
    except SystemExit as left:
        # Typer makes an exit of a Ctrl-C, and says nothing.
        if isinstance(getattr(left.__context__, "__cause__", None), KeyboardInterrupt):
            print("stopped", file=sys.stderr)
        raise
    return 0


def _in_a_folder() -> None:
    """Raises `UserError` where the current folder is gone: every path is made whole by it."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the current folder no longer exists ({error.strerror}): cd to another") from None


def _mount_space() -> None:
    from automl.space.cli import app as space_app

    app.add_typer(space_app, name="space", help="Show, sample and check a search space.")


def _printed() -> None:
    """The command. Raises `StorageError` where what it is there to print did not get out."""
    try:
        app()
    except SystemExit as left:
        if not left.code and (why := standard_streams.unsaid()):
            raise StorageError(f"stdout cannot be written: {why}") from None
        raise


def main() -> None:
    standard_streams.guard()
    _mount_space()
    code = guarded(_in_a_folder) or guarded(_printed)
    atexit.register(no_more_signals)
    sys.exit(code)


if __name__ == "__main__":
    main()
