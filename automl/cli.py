"""`automl run | plan | resume | status | best | report | dashboard | space`: parses, then calls one function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from automl.errors import AutoMLError, UserError
from automl.interruption import Interrupted
from automl.request import RunRequest, parse_silence, parse_time

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn a labelled COCO dataset into the best detector a compute budget buys.",
    epilog="Example: automl run --model deformable_detr --data coco/ --time 12h",
)

WHAT, BUDGET, SEARCH, MACHINE = "What to train", "Budget", "Search", "Machine"
MODEL = typer.Option(
    "deformable_detr", "--model", help="Installed name, or a model folder.", rich_help_panel=WHAT
)
DATA = typer.Option(
    None,
    "--data",
    help="DIR/{train,val,test}/{images/ or images.tar.gz, annotations.json}.",
    rich_help_panel=WHAT,
)
DEMO = typer.Option(
    False, "--demo", help="Draw a small dataset and use settings a CPU can train.", rich_help_panel=WHAT
)
SPEC = typer.Option(
    None,
    "--spec",
    "-e",
    help="Spec file (YAML); its keys win over everything found in DIR.",
    rich_help_panel=WHAT,
)
PRESET = typer.Option(
    None, "--preset", help="Named settings under the spec file: small (CPU), demo.", rich_help_panel=WHAT
)
SET = typer.Option(
    None, "--set", help="KEY=VALUE of the spec, e.g. train.num_epochs=24; repeatable.", rich_help_panel=WHAT
)
POLICY = typer.Option(
    None, "--automl-policy", help="on: search; off: train one plain spec.", rich_help_panel=SEARCH
)
METRIC = typer.Option("val_mAP", "--metric", help="val_mAP or val_mAP50.", rich_help_panel=SEARCH)
TUNE = typer.Option(
    None, "--tune", help="NAME, NAME=low:high[:log] or NAME=a,b,c; repeatable.", rich_help_panel=SEARCH
)
FIX = typer.Option(None, "--fix", help="NAME=VALUE: do not search it; repeatable.", rich_help_panel=SEARCH)
SAMPLER = typer.Option("tpe", "--sampler", help="tpe, gp or random.", rich_help_panel=SEARCH)
SCHEDULER = typer.Option("halving", "--scheduler", help="halving, median or none.", rich_help_panel=SEARCH)
SEED = typer.Option(0, "--seed", help="Seed of the search.", rich_help_panel=SEARCH)
TRIALS = typer.Option(
    None, "--trials", min=1, help="Trials to start (20 when no budget is given).", rich_help_panel=BUDGET
)
EPOCHS = typer.Option(
    None, "--epochs", min=1, help="Training epochs, summed over all trials.", rich_help_panel=BUDGET
)
TIME = typer.Option(
    None, "--time", help="Wall time of the search: 90s, 30m, 2h, 1h30m.", rich_help_panel=BUDGET
)
EXECUTOR = typer.Option(
    "ray", "--executor", help="ray, or local (this machine, no Ray).", rich_help_panel=MACHINE
)
ADDRESS = typer.Option(
    None,
    "--ray-address",
    envvar="RAY_ADDRESS",
    help="A running Ray cluster; default: this machine.",
    rich_help_panel=MACHINE,
)
CONCURRENCY = typer.Option(
    None,
    "--concurrency",
    min=1,
    help="Trials at a time; default: what the GPUs allow, 1 on a CPU.",
    rich_help_panel=MACHINE,
)
GPUS = typer.Option(
    None,
    "--gpus-per-trial",
    help="A share of a GPU, e.g. 0.25 for four trials on each; default: train.num_gpus.",
    rich_help_panel=MACHINE,
)
CPUS = typer.Option(
    None,
    "--cpus-per-trial",
    help="Cores of a trial; default: the machine's shared out, 1 on a cluster.",
    rich_help_panel=MACHINE,
)
SILENCE = typer.Option(
    "1h",
    "--silence",
    help="Stop a trial that shows no sign of life for so long; off: never.",
    rich_help_panel=MACHINE,
)
STORAGE = typer.Option(
    None,
    "--storage",
    help="Database URL (postgresql://...); default: SQLite in the run folder.",
    rich_help_panel=MACHINE,
)
RESULTS = typer.Option(
    None, "--results-dir", help="The run folder; default: results/<model>/<time>.", rich_help_panel=MACHINE
)
STAGES = typer.Option(
    "evaluate,export,gen_trt_engine",
    "--stages",
    help="Actions to run on the winner; none: none.",
    rich_help_panel=MACHINE,
)
RUN_DIR = typer.Argument(..., help="A run folder.")


@app.command(epilog="Example: automl run --data bccd/ --preset small --trials 12 --time 1h")
def run(
    model: str = MODEL, data: str = DATA, demo: bool = DEMO, spec: str = SPEC, preset: str = PRESET,
    sets: list[str] = SET, policy: str = POLICY, metric: str = METRIC, tune: list[str] = TUNE, fix: list[str] = FIX,
    sampler: str = SAMPLER, scheduler: str = SCHEDULER, seed: int = SEED, trials: int = TRIALS, epochs: int = EPOCHS,
    limit: str = TIME, executor: str = EXECUTOR, address: str = ADDRESS, concurrency: int = CONCURRENCY,
    gpus: float = GPUS, cpus: float = CPUS, silence: str = SILENCE,
    storage: str = STORAGE, results_dir: str = RESULTS, stages: str = STAGES,
) -> None:  # fmt: skip
    """Search, and hand the winner over ready to deploy."""
    from automl import loop, show
    from automl.progress import Progress

    request = make_request(
        model, data, demo, spec, preset, sets, policy, metric, tune, fix, sampler, scheduler, seed, trials, epochs,
        limit, executor, address, concurrency, gpus, cpus, silence, storage, results_dir, stages,
    )  # fmt: skip
    root = (
        Path(results_dir)
        if results_dir
        else Path("results") / Path(model).name / time.strftime("%Y%m%d-%H%M%S")
    )
    console = _console()
    console.print(f"run folder: {root}", highlight=False)
    outcome = loop.run(request, root, Progress(console))
    show.outcome(console, outcome)


@app.command(epilog="Example: automl plan --model deformable_detr --demo")
def plan(
    model: str = MODEL, data: str = DATA, demo: bool = DEMO, spec: str = SPEC, preset: str = PRESET,
    sets: list[str] = SET, policy: str = POLICY, metric: str = METRIC, tune: list[str] = TUNE, fix: list[str] = FIX,
    sampler: str = SAMPLER, scheduler: str = SCHEDULER, seed: int = SEED, trials: int = TRIALS, epochs: int = EPOCHS,
    limit: str = TIME, executor: str = EXECUTOR, address: str = ADDRESS, concurrency: int = CONCURRENCY,
    gpus: float = GPUS, cpus: float = CPUS, silence: str = SILENCE,
    configurations: int = typer.Option(4, "--show", min=1, help="First configurations to show."),
) -> None:  # fmt: skip
    """Show what run would do: data, space, first configurations, time. Trains nothing."""
    import tempfile

    from automl import show
    from automl.plan import prepare

    request = make_request(
        model, data, demo, spec, preset, sets, policy, metric, tune, fix, sampler, scheduler, seed, trials, epochs,
        limit, executor, address, concurrency, gpus, cpus, silence, None, None, "",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="automl-plan-") as folder:
        show.plan(_console(), prepare(request, Path(folder)), configurations)


@app.command(epilog="Example: automl resume results/deformable_detr/20260101-120000 --trials 40")
def resume(
    run_dir: Path = RUN_DIR,
    trials: int = typer.Option(None, "--trials", min=1, help="New total of trials."),
    epochs: int = typer.Option(None, "--epochs", min=1, help="New total of training epochs."),
    limit: str = typer.Option(None, "--time", help="New total of search time."),
) -> None:
    """Go on with a run: after a crash, a reboot, or with a larger budget."""
    from automl import loop, show
    from automl.progress import Progress

    changes: dict[str, Any] = {
        "trials": trials,
        "epochs": epochs,
        "time_s": parse_time(limit) if limit else None,
    }
    console = _console()
    outcome = loop.resume(run_dir, {k: v for k, v in changes.items() if v is not None}, Progress(console))
    show.outcome(console, outcome)


@app.command(epilog="Example: automl status results/deformable_detr/20260101-120000")
def status(run_dir: Path = RUN_DIR) -> None:
    """Every trial of a run: state, epochs, best metric, why it ended."""
    from automl import show

    show.status(_console(), run_dir)


@app.command(epilog="Example: automl best results/deformable_detr/20260101-120000")
def best(run_dir: Path = RUN_DIR) -> None:
    """The winner of a run so far: its metric, what it changed, its files."""
    from automl import show

    show.best(_console(), run_dir)


@app.command(epilog="Example: automl report results/deformable_detr/20260101-120000")
def report(run_dir: Path = RUN_DIR) -> None:
    """Write report.html: curves, importances, every trial."""
    from automl import report as reports

    print(f"wrote {reports.write(run_dir)}")


@app.command(epilog="Example: automl dashboard results/deformable_detr/20260101-120000 --port 8080")
def dashboard(
    run_dir: Path = RUN_DIR,
    port: int = typer.Option(8080, "--port", min=0, max=65535, help="On 127.0.0.1; 0: any."),
) -> None:
    """Open the Optuna dashboard on a run, on this machine only."""
    from automl import dashboard as dashboards

    dashboards.serve(run_dir, port)


def make_request(
    model: str, data: str | None, demo: bool, spec: str | None, preset: str | None, sets: list[str] | None,
    policy: str | None, metric: str, tune: list[str] | None, fix: list[str] | None, sampler: str, scheduler: str,
    seed: int, trials: int | None, epochs: int | None, limit: str | None, executor: str, address: str | None,
    concurrency: int | None, gpus: float | None, cpus: float | None, silence: str, storage: str | None, results_dir: str | None, stages: str,
) -> RunRequest:  # fmt: skip
    """The command line as a RunRequest. Raises `UserError` for what typer cannot check."""
    if metric not in ("val_mAP", "val_mAP50"):
        raise UserError(f"--metric must be val_mAP or val_mAP50, but got '{metric}'")
    if demo and data:
        raise UserError("--demo draws its own data; give --demo or --data, not both")
    return RunRequest(
        model=model, data=data, demo=demo, spec_file=spec, preset=preset, sets=tuple(sets or ()), policy=policy,
        metric=metric, tune=tuple(tune or ()), fix=tuple(fix or ()), sampler=sampler, scheduler=scheduler, seed=seed,
        trials=trials, epochs=epochs, time_s=parse_time(limit) if limit else None, executor=executor,
        ray_address=address, concurrency=concurrency, gpus_per_trial=gpus, cpus_per_trial=cpus,
        silence_timeout_s=parse_silence(silence), storage=storage, results_dir=results_dir,
        stages=tuple(s for s in stages.split(",") if s and s != "none"),
    )  # fmt: skip


def _console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=not sys.stdout.isatty())


def guarded(run: Callable[[], Any]) -> int:
    """Call `run`; an error of ours becomes one message on stderr and its exit code, and nothing is lost."""
    try:
        run()
    except AutoMLError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if getattr(error, "exit_code", None) is None:
            raise
        print(f"error: {error}", file=sys.stderr)  # the model's own errors carry an exit code too
        return int(error.exit_code)  # type: ignore[attr-defined]
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
