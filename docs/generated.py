"""The pages that follow from the code: options, commands, parameters, messages. mkdocs calls `on_files`."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

INNER = ("Attribute", "NotImplemented", "Key", "Index")  # never reach a person
ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to the site."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def pages() -> dict[str, str]:
    """{path in the site: Markdown}."""
    return {
        "reference/options.md": options_page(),
        "reference/commands.md": commands_page(),
        "reference/parameters.md": parameters_page(),
        "reference/python.md": python_page(),
        "reference/messages.md": messages_page(),
        "reference/trial_contract.md": without_links((ROOT / "references" / "trial_contract.md").read_text()),
        "reference/changes.md": without_links((ROOT / "CHANGELOG.md").read_text()),
    }


def without_links(text: str) -> str:
    """Links into the repository as plain words: the site does not hold its files."""
    return re.sub(r"\[([^\]]+)\]\((?!http)[^)]+\)", r"\1", text)


def options_page() -> str:
    from automl.request import options

    lines = [
        "# Options of automl run",
        "",
        "`automl plan` takes the same. Fields of `automl.tune` have the names in brackets.",
    ]
    panels = dict.fromkeys(each.metadata["option"].panel for each in options())
    for panel in panels:
        lines += ["", f"## {panel}", "", "| Option | Default | Meaning |", "|---|---|---|"]
        for each in options():
            spelled = each.metadata["option"]
            if spelled.panel == panel:
                flags = ", ".join(f"`{flag}`" for flag in spelled.flags)
                default = "" if each.default in (None, (), False) else f"`{each.default}`"
                lines.append(f"| {flags} ({each.name}) | {default} | {cell(spelled.help)} |")
    return "\n".join(lines)


def commands_page() -> str:
    """`--help` of every command of both programs, as it is printed."""
    import typer

    from automl import cli as engine
    from model import cli as detector

    if not any(group.name == "space" for group in engine.app.registered_groups):
        engine._mount_space()
    lines = ["# Commands", ""]
    for program, app in (("automl", engine.app), ("deformable_detr", detector.app)):
        lines += [f"## {program}", "", "| Command | What it does |", "|---|---|"]
        lines += [
            f"| `{name}` | {cell(told)} |" for name, told in commands(typer.main.get_command(app), program)
        ]
        lines.append("")
    return "\n".join(lines)


def commands(command: Any, name: str) -> list[tuple[str, str]]:
    """(words, first sentence of its help) of a command and all below it."""
    below = getattr(command, "commands", None)
    if not below:
        words = " ".join(
            [name, *(str(p.name).upper() for p in command.params if p.param_type_name == "argument")]
        )
        return [(words, (command.help or "").strip().split("\n\n")[0])]
    return [row for word, each in below.items() for row in commands(each, f"{name} {word}")]


def parameters_page() -> str:
    from model.parameters import ACTIONS
    from model.parameters import PARAMETERS as TABLE

    lines = [
        "# Parameters of the detector", "",
        "Every leaf of a spec: what it is, its default, what is valid. `search` marks what is searched unless "
        "told otherwise.", "",
    ]  # fmt: skip
    for section in dict.fromkeys(p.name.split(".")[0] for p in TABLE):
        lines += [
            f"## {section}",
            "",
            "| Leaf | Default | Valid | Actions | Meaning |",
            "|---|---|---|---|---|",
        ]
        for p in TABLE:
            if p.name.split(".")[0] == section:
                where = "all" if p.actions == ACTIONS else ", ".join(p.actions)
                star = " *search*" if p.automl else ""
                lines.append(
                    f"| `{p.name}`{star} | `{cell(p.default)}` | {cell(valid(p))} | {where} | {cell(p.doc)} |"
                )
        lines.append("")
    return "\n".join(lines)


def valid(p: Any) -> str:
    """A parameter's type and bounds in a few words."""
    if p.enum:
        return ", ".join(map(str, p.enum))
    ends = ("" if p.minimum is None else str(p.minimum), "" if p.maximum is None else str(p.maximum))
    return str(p.type) + (f", {ends[0]} to {ends[1]}".rstrip() if any(ends) else "")


def python_page() -> str:
    import automl
    from automl.tuning import Tuned

    lines = ["# Python", "", "## automl.tune", "", "```", f"tune{inspect.signature(automl.tune)}", "```", ""]
    lines += [
        paragraphs(inspect.getdoc(automl.tune) or ""),
        "",
        "## Tuned",
        "",
        "| Name | What it is |",
        "|---|---|",
    ]
    for name, member in vars(Tuned).items():
        if not name.startswith("_") and (isinstance(member, property) or inspect.isfunction(member)):
            lines.append(f"| `{name}` | {cell(inspect.getdoc(member) or '')} |")
    return "\n".join(lines)


def paragraphs(text: str) -> str:
    """Lines `name: what it is` of a docstring as a list."""
    return re.sub(r"^(\w[\w, ]*): ", r"- **\1**: ", text, flags=re.M)


def messages_page() -> str:
    """Every refusal that stands in the code as one sentence; what changes is in braces."""
    lines = [
        "# Messages",
        "",
        "What is refused, and what to do about it, as it is printed; what changes from case to case is in braces.",
    ]
    for package in ("automl", "model", "safe_documents", "standard_streams"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if found := messages(path):
                lines += ["", f"## {path.relative_to(ROOT)}", "", *(f"- {cell(text)}" for text in found)]
    return "\n".join(lines)


def messages(path: Path) -> list[str]:
    """The texts of the errors that a file raises."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            name = ast.unparse(node.exc.func)
            text = spelled(node.exc.args[0])
            if (
                name.endswith("Error")
                and not name.startswith(("Attribute", "NotImpl", "Key", "Index"))
                and len(text) > 12
            ):
                found.append(text)
    return list(dict.fromkeys(found))


def spelled(node: ast.expr) -> str:
    """A string of the source with {what stands in} for its parts."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"  # type: ignore[attr-defined, misc]
            for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return spelled(node.left) + spelled(node.right)
    return ""


def cell(value: Any) -> str:
    """Text for a cell of a table or a line of a list."""
    text = " ".join(str(value).split())
    return "".join(f"\\{c}" if c in "|<*_[" else c for c in text)
