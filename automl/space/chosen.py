"""Which parameters are searched: flagged or asked for, with something to choose from, and able to matter; and what the
schema and its names say that parameters have to do with each other: conditions and relations."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from automl.dotted import MISSING, get, leaves
from automl.errors import SpaceError, did_you_mean
from automl.metric import first_of
from automl.space.dialect import Node, parse_math_cond
from automl.space.leaf import Condition, Leaf, Relation, among, coerced, is_number, short
from automl.space.requests import EPOCHS, Asked, Values
from automl.space.schema import LISTED, UNLISTED

Conditions = Mapping[str, tuple[Condition, ...]]  # of every searched parameter
LARGEST = 2**52  # of integers: to twice of it a double counts exactly
NO_EFFECT = "it has no effect for any searched value of {}"
LENGTH = "it is the length of the training, which the budget of the search spends"
APART = {  # what --space all leaves alone too: a part of a name -> why
    re.compile(r"(^|_)class(es|_ids)$"): "the data say it",
    re.compile(r"(^|_)seed$"): "it is luck, not a setting",
    re.compile(r"_interval$|_unit$|^verbose$|^wandb$|_dry_run$|^monitor|^clearml$"): "it changes what is written",
    re.compile(r"^num_gpus$|^gpu_ids$|^num_nodes$|^accelerator$|_strategy$|^cudnn$|^precision$|^fp8$|checkpoint|"
               r"^dataset_type$"): "it changes speed and memory",
}  # fmt: skip
ACTIONS = ("evaluate", "inference", "export", "gen_trt_engine", "quantize", "distill", "prune", "retrain",
           "dataset_convert", "convert", "calibrate", "visualize", "auto_label", "deploy")  # fmt: skip
SPEED = re.compile(r"(^|_)(num_)?workers?(_per_\w+)?$|^prefetch_factor$|_prefetch_factor$|^pin_memory$")
SCORING = re.compile(
    r"^(val|validate|validation|test|testing|infer|inference|eval|evaluate|evaluation|calib|calibration|"
    r"quant_calibration|quant_calib)(_|$)"
)
SELECTED = re.compile(r"(^|_)(select|selected|top_?k)$")  # a count that is at most what it depends on, or
SELECTED_FROM = re.compile(r"(^|_)(queries|proposals|candidates)$")  # such a count beside it
_RANGELESS = {
    "mapping": "a mapping has no range",
    "null": "its schema does not say what it may be",
    "text": "free text has no range; give values to choose from",
}


def choose(asked: Asked, known: Mapping[str, str]) -> tuple[Conditions, dict[str, str], list[str]]:
    """(the conditions of the parameters that are searched, why others that could be are not, notes). `known` are some
    that never matter, with the reason. Raises `SpaceError` for a parameter that was asked for and cannot be searched.
    """
    verdicts = {name: why_not(asked, name) for name in sorted(asked.schema) if wanted(asked, name)}
    conditions, inert, notes = keep_active(asked, [n for n, r in verdicts.items() if r is None], known)
    return conditions, {n: reason for n, reason in verdicts.items() if reason is not None} | inert, notes


def why_not(asked: Asked, name: str) -> str | None:
    """The reason that a wanted parameter is not searched, whatever the others are; None when it can be."""
    wish = asked.insists(name)
    if wish and wish.fixed:
        return f"fixed at {short(asked.base.get(name))} ({wish.source})"
    reason = (None if wish else next(why_never(asked, name), None)) or no_space(asked, name)
    asked.let_go({name: reason} if reason else {})
    return reason


def wanted(asked: Asked, name: str) -> bool:
    """Asked for or recommended, or of the group: flagged, or listed without a flag of its own; or not flagged off."""
    flag, listed = asked.schema.flag(name), asked.schema.listed
    if name in asked.wishes or asked.group == "recommended":
        return name in asked.wishes
    if flag is not None:
        return flag
    by_list = name in listed[LISTED] and name not in listed[UNLISTED]
    if by_list or asked.group == "tao":
        return by_list
    try:  # a number, a choice or a list of numbers, where its schema can be read
        kind, value = asked.schema.leaf(name).kind, asked.value(name)
    except SpaceError:
        return False
    numbers = kind == "list" and isinstance(value, list) and value and all(map(is_number, value))
    return bool(numbers) or kind in ("int", "float", "bool", "choice", "ordered", "subset")


def why_never(asked: Asked, name: str) -> Iterator[str]:
    """The reasons why a parameter is not searched unless a person asks for it by name, whatever the spec."""
    schema, path, own = asked.schema, asked.schema.paths[name], asked.schema.action or "train"
    if SPEED.search(path[-1]):
        yield "it changes speed, not results"
    if path[-1] in EPOCHS and path[0] in (path[-1], "train"):
        yield LENGTH
    is_foreign = len(path) > 1 and path[0] in ACTIONS and path[0] != own and not own.endswith(f"_{path[0]}")
    if is_foreign and (schema.action or any(each[0] == "train" for each in schema.paths.values())):
        yield f"it belongs to the action {path[0]}"
    for part in (part for part in path if SCORING.match(part) and part != own):
        yield f"'{part}' is not training: it changes how trials are scored, if anything"
    if asked.group != "tao" and schema.leaf(name).nullable and asked.base.get(name) is None:
        yield "it is off (null)"
    if asked.group == "all" and not schema.flag(name):
        yield from (why for pattern, why in APART.items() if any(map(pattern.search, path)))


def no_space(asked: Asked, name: str) -> str | None:
    """Why a leaf has nothing to choose from; None when it has."""
    leaf, wish = asked.schema.leaf(name), asked.wishes.get(name)
    sections = (".".join(leaf.path[:depth]) for depth in range(1, len(leaf.path)))
    if absent := next((section for section in sections if get(asked.spec, section, MISSING) is None), None):
        return f"the spec has no section {absent}"
    if leaf.unread:
        return f"its schema restricts it by '{leaf.unread[0]}', which is not modelled"
    if wish and wish.options:
        return None
    if leaf.kind == "int" and is_number(start := asked.base.get(name)) and abs(start) > LARGEST:
        return "integers as large as its default are not searched"
    if leaf.choices and len(leaf.choices) == 1 and leaf.kind != "subset":
        if leaf.branches:
            return "a mixture of numbers and words needs options to choose from"
        return "; ".join((f"{short(leaf.choices[0])} is its only value", *leaf.notes))
    if any(isinstance(c, str) and (c != c.strip() or "\n" in c) for c in leaf.choices):
        return "its enum is mangled (a value begins or ends with white space)"
    return _RANGELESS.get(leaf.kind)


def keep_active(
    asked: Asked, kept: Sequence[str], known: Mapping[str, str]
) -> tuple[Conditions, dict[str, str], list[str]]:
    """(the conditions that searched parameters decide, why others never matter, notes)."""
    rules = {name: tuple(conditions_of(asked, asked.schema.leaf(name))) for name in kept}
    inert: dict[str, str] = {}
    while True:
        searched = rules.keys() - inert.keys()
        verdicts = {n: known.get(n) or judge(asked, rules[n], searched) for n in kept if n not in inert}
        never = {n: v for n, v in verdicts.items() if isinstance(v, str)}
        if not (more := {n: v for n, v in never.items() if not asked.insists(n)}):
            notes = [f"{n} is searched as asked, though {v}" for n, v in never.items()]
            return {n: () if isinstance(v, str) else v for n, v in verdicts.items()}, inert, notes
        inert |= more


def judge(asked: Asked, rules: Sequence[Condition], searched: Collection[str]) -> tuple[Condition, ...] | str:
    """The conditions that stay open, or why the parameter never matters."""
    still_open = []
    for rule in rules:
        if rule.name not in searched:
            if not rule.holds(asked.base):
                return f"it has no effect while {rule.name} is {short(asked.base.get(rule.name))}"
            continue
        leaf = asked.schema.leaf(rule.name)
        values = asked.wish(rule.name).options or leaf.options
        fitting = tuple(v for v in values if among(v, rule.values))
        if not values:  # of a number, or a list: where it is searched, `unreachable` looks later
            fitting = tuple(v for v in rule.values if v is not None and leaf.problem(v) is None)
        if not fitting:
            return NO_EFFECT.format(rule.name)
        if len(fitting) < len(values) or not values:
            still_open.append(Condition(rule.name, fitting))
    return tuple(still_open)


def conditions_of(asked: Asked, leaf: Leaf) -> Iterator[Condition]:
    """Everything that must hold for the leaf to matter: the schema's word, else what names tell."""
    if leaf.active_when:
        yield from leaf.active_when
        return
    nodes = asked.schema.nodes
    for name in switches_of(leaf.path):
        if name != leaf.name and name in nodes and str(nodes[name].get("type")) in ("bool", "boolean"):
            yield Condition(name, (True,))
    yield from branches(asked, leaf)
    yield from used_by(asked, leaf)
    yield from (Condition(name, (None,)) for name in replaced_by(leaf.path) if name in nodes)


def switches_of(path: Sequence[str]) -> Iterator[str]:
    """Names of switches that a parameter may have: `enable` beside it or beside a section it is in; `enable_ema` beside
    `ema_decay`, `use_mlp` beside `mlp_size`."""
    *above, last = path
    enable = ("enable", "enabled", "is_enabled")
    yield from (".".join((*above[:i], word)) for i in range(1, len(path)) for word in enable)
    stems = (last[: found.start()] for found in re.finditer("_", last))
    yield from (".".join((*above, prefix + stem)) for stem in stems for prefix in ("enable_", "use_"))


def replaced_by(path: Sequence[str]) -> list[str]:
    """Names beside a parameter that are used in its place unless they are null: `fixed_crop` in place of all from
    `crop_min` to `crop_max`, a number of frames in place of their rate."""
    *above, last = path
    stem = re.fullmatch(r"(\w+)_(min|max)", last)
    words = stem[1].split("_") if stem else []
    found = [f"fixed_{'_'.join(words[i:])}" for i in range(len(words))] + ["nframes"] * (last == "fps")
    return [".".join((*above, each)) for each in found]


def branches(asked: Asked, leaf: Leaf) -> Iterator[Condition]:
    """A section named like a value of an enum above it matters while the enum has that value: `task: segment` beside
    `segment.` and `classify.`."""
    for depth, part in enumerate(leaf.path[:-1]):
        if part in ("train", *ACTIONS) or SCORING.match(part):
            continue
        for name, enum in asked.schema.enums.items():
            section = asked.schema.paths[name][:-1]
            if part in enum and len(section) <= depth and section == leaf.path[: len(section)]:
                yield Condition(name, (part,))


_OPTIMIZERS = ("optimizer", "optim", "optimizer_type", "optimizer_name", "optm_name", "optim_type", "type",
               "name")  # fmt: skip
_SCHEDULES = ("lr_scheduler", "scheduler", "policy", "lr_policy", "lr_scheduler_type", "scheduler_type", "sched",
              "lr_schedule", "type", "name")  # fmt: skip
_WITH_MOMENTUM = re.compile(r"^(sgd|nesterov|msgd|rmsprop|lars|momentum)")
_WITH_BETAS = re.compile(r"^(fused|bnb|paged)?(adam|nadam|radam|lamb|adan|lion|adabelief)")
_STEP = re.compile(r"^step(lr)?$")
_MULTISTEP = re.compile(r"^multistep(lr)?(scheduler)?$|^warmupmultistep(lr)?$")
_DECAYING = re.compile(r"^(step|multistep|exp|reduce|plateau|warmupmultistep)")
_OTHER = re.compile("^(cos|linear|poly|onecycle|constant|none|exp|reduce|plateau|warmup|inverse|cyclic|flat)")
_NO_STEP = re.compile(f"{_MULTISTEP.pattern}|{_OTHER.pattern}")
_NO_MULTISTEP = re.compile(f"{_STEP.pattern}|{_OTHER.pattern}")
# Parameters that only some optimizers or schedules use: (names; names beside them or above that choose one; the
# choices that use them; those that do not; such a choice where the schema has none; what some schemas call it)
_Use = tuple[tuple[str, ...], re.Pattern[str], re.Pattern[str], str, re.Pattern[str] | None]
_USES: dict[str, _Use] = {
    name: (deciders, kind, other, example, alias)
    for names, deciders, kind, other, example, alias in (
        ("momentum", _OPTIMIZERS, _WITH_MOMENTUM, _WITH_BETAS, "SGD", None),
        ("betas beta1 beta2 optm_betas adam_betas", _OPTIMIZERS, _WITH_BETAS, _WITH_MOMENTUM, "Adam", None),
        ("lr_step_size step_size", _SCHEDULES, _STEP, _NO_STEP, "StepLR", None),
        ("lr_steps milestones lr_milestones", _SCHEDULES, _MULTISTEP, _NO_MULTISTEP, "MultiStep", _STEP),
        ("lr_decay gamma lr_gamma lr_decay_rate", _SCHEDULES, _DECAYING, _OTHER, "MultiStep", None),
    )
    for name in names.split()
}
_NO_USE: _Use = ((), _OTHER, _OTHER, "", None)


def used_by(asked: Asked, leaf: Leaf) -> Iterator[Condition]:
    """The condition that what chooses beside it, or beside its section, is set to what uses the leaf."""
    *above, last = leaf.path
    words, kind, other, example, alias = _USES.get(last, _NO_USE)
    sections = [above, above[:-1]] if len(above) > 1 else [above]
    for name in (".".join((*section, word)) for section in sections for word in words):
        current = asked.base.get(name)
        if name == leaf.name or name not in asked.schema or not isinstance(current, str):
            continue
        options = [option for option in asked.schema.leaf(name).choices if isinstance(option, str)]
        plain = {v: re.sub(r"[^a-z0-9]", "", v.lower()) for v in [*options, current]}
        known = [v for v, text in plain.items() if kind.search(text) or other.search(text)]
        if current in known:
            good = [v for v in known if kind.search(plain[v])]
            good = good or [v for v in options if alias and alias.search(plain[v])]
            yield Condition(name, (*good, *(v for v in options if v not in known)) or (example,))
            return


def relate(asked: Asked, searched: Collection[str]) -> tuple[list[Relation], Values, list[str]]:
    """(every relation that the schema states; the base's values, with numbers written as text read as numbers, and the
    spec's for names that the schema lacks; notes). Raises `SpaceError` where a request set one side of a relation
    between what is not searched, and it does not hold."""
    relations, notes = gather(asked, searched)
    sides = dict.fromkeys(name for relation in relations for name in relation.sides)
    found = {n: asked.base.get(n, get(asked.spec, n, MISSING)) for n in sides}
    read = {n: coerced(v, "float") if n in asked.base and not is_number(v) else v for n, v in found.items()}
    base = {**asked.base, **{name: value for name, value in read.items() if value is not MISSING}}
    for relation in relations:
        shown = relation.broken(base)
        if shown and not any(name in searched for name in relation.sides):
            notes.append(f"{relation.text} does not hold: {shown}")
            if any(asked.wish(name).value is not MISSING for name in relation.sides):
                raise SpaceError(f"{relation.left}: {notes[-1]}")
    return relations, base, notes


def gather(asked: Asked, searched: Collection[str]) -> tuple[list[Relation], list[str]]:
    """(every relation that the schema states, notes)."""
    schema = asked.schema
    found: list[Relation] = []
    notes: list[str] = []
    for name, node in schema.nodes.items():
        if not (
            node.get("depends_on") or names_another(node, name) or name in searched or SELECTED.search(name)
        ):
            continue
        try:
            stated = [r for r in _stated(asked, schema.leaf(name)) if r.op != "after" or name in searched]
        except SpaceError as error:
            if name in searched:
                raise
            notes.append(f"{error}; the parameter is not searched, so its relations are not kept")
            continue
        found += stated
        unclear = "has no operator and implies none that we know"
        notes += [f"{name}: depends_on {r.right} {unclear}" for r in stated if r.op == "after"]
    return list(dict.fromkeys(found)), notes


def names_another(node: Node, name: str) -> bool:
    """Whether the math_cond of a parameter says something of another; of what cannot be read, whether it means to."""
    raw = node.get("math_cond")
    try:
        return any(isinstance(operand, str) for _, operand in parse_math_cond(raw, name))
    except SpaceError:
        return "depends_on" in str(raw)


def _stated(asked: Asked, leaf: Leaf) -> Iterator[Relation]:
    """The schema's own; a depends_on without any operator is "at most" of a selection, and where the defaults keep to
    that. A selection that depends on nothing is selected from what stands beside it."""
    conds = [(op, operand) for op, operand in leaf.cond if isinstance(operand, str)]
    for op, operand in conds:
        if operand == "depends_on" and not leaf.depends_on:
            what = f"math_cond '{op} depends_on' needs a depends_on that names a parameter"
            raise SpaceError(f"{leaf.name}: {what}")
        for target in [n for _, n in leaf.depends_on] if operand == "depends_on" else [operand]:
            yield Relation(leaf.name, op, target)
    is_selected = leaf.domain is not None and SELECTED.search(leaf.path[-1])
    paths = asked.schema.paths if is_selected else {}
    beside = [n for n in paths if paths[n][:-1] == leaf.path[:-1] and SELECTED_FROM.search(n)]
    for sign, target in leaf.depends_on or [(None, name) for name in beside]:
        ours, theirs = asked.base.get(leaf.name), asked.base.get(target)
        at_most = is_selected or (is_number(ours) and is_number(theirs) and ours <= theirs)
        if sign or not conds:
            yield Relation(leaf.name, sign or ("<=" if at_most else "after"), target)


def disagreements(asked: Asked) -> Iterator[str]:
    """Where the schema is not modelled, its flags and its lists of names contradict each other, or the spec has names
    that it lacks; relations may still use their values."""
    schema = asked.schema
    for where, key in schema.unread.items():
        yield f"'{key}' in {where} is not modelled: a configuration may be one that the schema forbids"
    listed, unlisted = sorted(schema.listed[LISTED]), sorted(schema.listed[UNLISTED])
    flags: dict[str, bool | str | None] = {**dict.fromkeys(schema.sections, "section")}
    flags |= {name: schema.flag(name) for name in schema}
    wins = "the flag wins: searched"
    for found, what in (
        ([n for n in schema if listed and flags[n] and n not in listed], f"flagged but not in {LISTED} ({wins})"),
        ([n for n in listed if flags.get(n) is False], f"in {LISTED} but flagged false (the flag wins: not searched)"),
        ([n for n in unlisted if flags.get(n) is True], f"in {UNLISTED} but flagged true ({wins})"),
        ([n for n in listed if flags.get(n, "") is None], f"in {LISTED} without a flag (searched)"),
        ([n for n in listed if n not in flags], f"in {LISTED} but not in the schema (ignored)"),
    ):  # fmt: skip
        if found:
            yield f"{what}: {first_of(found, shown=4)}"
    for name, _ in leaves(asked.spec, known=schema):
        if not (name in schema or name in schema.sections or any(n.startswith(f"{name}[") for n in schema)):
            yield f"the spec's {name} is not in the schema{did_you_mean(name, schema)}"
