"""`automl space`: look at a search space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from automl.space import SearchSpace

app = typer.Typer(no_args_is_help=True)


def space_table(space: SearchSpace) -> Table:
    """The space as a table a person likes to read."""
    from rich.table import Table

    table = Table(title="Search space", title_justify="left", box=None, header_style="bold")
    for name in ("parameter", "range", "scale", "default", "why"):
        table.add_column(name)
    for p in space.parameters:
        shown = ", ".join(map(str, p.choices)) if p.choices else f"{p.low:g} .. {p.high:g}"
        relation = f" (> {p.above})" if p.above else f" (<= {p.at_most})" if p.at_most else ""
        table.add_row(p.name, shown + relation, "log" if p.log else "linear", str(p.default), p.why)
    return table


@app.command()
def show(
    model: str = typer.Option("deformable_detr", "--model", help="Installed name, or a model folder."),
) -> None:
    """Show the space of a model's defaults."""
    from rich.console import Console

    from automl import bundle
    from automl.space import compile_space

    Console().print(space_table(compile_space(bundle.resolve(model).schema("train"))))
