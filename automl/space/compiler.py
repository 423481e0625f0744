"""Schema, base spec and requests -> the parts of a `SearchSpace`, in five steps.

1  base        every leaf's value: the spec's, else the schema's default
2  candidates  the leaves that are flagged or asked for, less those that cannot matter
3  drafts      what each may be, narrowed by relations whose other side is fixed
4  ranges      where to look, then made fit for relations between searched parameters
5  parameters  codecs in the order in which they are drawn, each with a valid default
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from automl.errors import SpaceError
from automl.space import activity, lists, relations
from automl.space.activity import Condition
from automl.space.codecs import Codec, ListOf, Number, Options, Subset
from automl.space.domain import Domain, is_number
from automl.space.lists import NotSearchable
from automl.space.parameter import Parameter
from automl.space.relations import Draft, Link
from automl.space.scale import LINEAR, LOG, Range, closed, rescaled, search_range, typical
from automl.space.schema import Leaf, Schema, coerced, same
from automl.space.tuning import Wish, read_wishes
from automl.space.words import is_missing, short

_EXCLUSIVE = ("all", "none")  # an option like "all-linear" stands alone, so it is no part of a subset
_EPOCHS = ("num_epochs", "epochs", "epoch", "max_epochs", "n_epochs", "total_epochs")


@dataclass(frozen=True)
class Compiled:
    parameters: tuple[Parameter, ...]
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    fixed: tuple[tuple[str, Any], ...]
    context: tuple[tuple[str, Any], ...]
    relations: tuple[tuple[str, relations.Relation], ...]
    base: tuple[tuple[str, Any], ...]


class Compiler:
    """One compilation; `compiled` runs it."""

    def __init__(
        self, schema: Schema, spec: Mapping[str, Any] | None, tune: Sequence[str], fix: Sequence[str],
        search: Mapping[str, Any] | None, limits: Mapping[str, float] | None,
    ) -> None:  # fmt: skip
        self.schema, self.spec, self.limits = schema, spec, limits or {}
        self.notes: list[str] = []
        self.left_out: dict[str, str] = {}
        self.wishes = read_wishes(schema, tune, fix, search)
        self.base, self.given = base_values(schema, spec, self.wishes)
        self.epochs_name = find_epochs(schema)

    def compiled(self) -> Compiled:
        candidates = self._candidates()
        conditions = self._active(candidates)
        self.links = relations.gather(self.schema, self.base, self.notes, candidates)
        self._check_fixed(candidates)
        self.drafts: dict[str, Draft] = {}
        self.codecs: dict[str, Codec] = {}
        self.elements: dict[str, list[Draft]] = {}
        self.why: dict[str, str] = {}
        for name in candidates:
            self._draft(name, conditions[name])
        moving = self._ranges(candidates)
        names = [n for n in candidates if n not in self.left_out]
        parameters = self._parameters(names, moving, conditions)
        self._explain_disagreements()
        fixed = tuple(
            (n, w.value if w.has_value else self.base.get(n))
            for n, w in sorted(self.wishes.items())
            if w.fixed and (w.has_value or n in self.base)
        )
        return Compiled(
            parameters, tuple(sorted(self.left_out.items())), tuple(dict.fromkeys(self.notes)), fixed,
            self._context(parameters), self._validated(names), tuple(sorted(self._looked_at().items())),
        )  # fmt: skip

    # -- 2: candidates ---------------------------------------------------------------------------------------------

    def _candidates(self) -> list[str]:
        kept = []
        for name in sorted(self.schema):
            wish = self.wishes.get(name)
            if not self._wanted(name, wish):
                continue
            if wish and wish.fixed:
                self.left_out[name] = f"fixed at {short(self.base.get(name))} ({wish.source})"
                continue
            reason = (None if wish else activity.why_never(name, self.schema)) or self._no_space(name)
            if reason and wish:
                raise SpaceError(f"{wish.source}: {name} cannot be searched: {reason}")
            if reason:
                self.left_out[name] = reason
            else:
                kept.append(name)
        return kept

    def _wanted(self, name: str, wish: Wish | None) -> bool:
        """Flagged, or listed without a flag of its own, or asked for."""
        flag = self.schema.flag(name)
        listed = {key: name in names for key, names in self.schema.listed.items()}
        by_list = listed["automl_default_parameters"] and not listed["automl_disabled_parameters"]
        return wish is not None or flag is True or (flag is None and by_list)

    def _no_space(self, name: str) -> str | None:
        """Why a leaf has nothing to choose from; None when it has."""
        leaf, wish = self.schema.leaf(name), self.wishes.get(name)
        section = self._missing_section(leaf)
        if section:
            return f"the spec has no section {section}"
        if leaf.unread:
            return f"its schema restricts it by '{leaf.unread[0]}', which is not modelled"
        if wish and wish.options:
            return None
        if leaf.kind in ("mapping", "null"):
            return (
                "a mapping has no range"
                if leaf.kind == "mapping"
                else "its schema does not say what it may be"
            )
        if leaf.kind == "text":
            return "free text has no range; give values to choose from"
        if leaf.choices and len(leaf.choices) == 1 and leaf.kind != "subset":
            return f"{short(leaf.choices[0])} is its only value"
        if any(isinstance(c, str) and (c != c.strip() or "\n" in c) for c in leaf.choices):
            return "its enum is mangled (a value begins or ends with white space)"
        return None

    def _missing_section(self, leaf: Leaf) -> str | None:
        """The section above the leaf that the spec sets to null."""
        node: Any = self.spec
        for depth, key in enumerate(leaf.path[:-1]):
            node = node.get(key, _ABSENT) if isinstance(node, Mapping) else _ABSENT
            if node is None:
                return ".".join(leaf.path[: depth + 1])
        return None

    # -- activity --------------------------------------------------------------------------------------------------

    def _active(self, candidates: list[str]) -> dict[str, tuple[Condition, ...]]:
        """The conditions that searched parameters decide; what fixed ones rule out leaves `candidates`."""
        rules = {n: activity.conditions_of(self.schema.leaf(n), self.schema, self.base) for n in candidates}
        open_conditions: dict[str, tuple[Condition, ...]] = {}
        settled = False
        while not settled:
            settled = True
            for name in list(candidates):
                verdict = self._judge(rules[name], candidates)
                if isinstance(verdict, str) and name not in self.wishes:
                    self.left_out[name] = verdict
                    candidates.remove(name)
                    settled = False
                elif isinstance(verdict, str):
                    self.notes.append(f"{name} is searched as asked, though {verdict}")
                    rules[name] = ()
                    open_conditions[name] = ()
                else:
                    open_conditions[name] = verdict
        return open_conditions

    def _judge(self, rules: tuple[Condition, ...], candidates: list[str]) -> tuple[Condition, ...] | str:
        """The conditions that stay open, or why the parameter never matters."""
        still_open = []
        for rule in rules:
            values = self._options_of(rule.name) if rule.name in candidates else None
            if values is None:
                current = self.base.get(rule.name)
                if not any(same(current, v) for v in rule.values):
                    return f"it has no effect while {rule.name} is {short(current)}"
                continue
            fitting = [v for v in values if any(same(v, w) for w in rule.values)]
            if not fitting:
                return f"it has no effect for any searched value of {rule.name}"
            if len(fitting) < len(values):
                still_open.append(Condition(rule.name, tuple(fitting)))
        return tuple(still_open)

    def _options_of(self, name: str) -> tuple[Any, ...]:
        """What a searched parameter can become; () for a number, which decides nothing."""
        wish, leaf = self.wishes.get(name), self.schema.leaf(name)
        if wish and wish.options:
            return wish.options
        return (False, True) if leaf.kind == "bool" and not leaf.choices else leaf.choices

    # -- 3: drafts -------------------------------------------------------------------------------------------------

    def _draft(self, name: str, conditions: tuple[Condition, ...]) -> None:
        leaf, wish = self.schema.leaf(name), self.wishes.get(name)
        try:
            if leaf.kind == "list":
                self._list(leaf, wish)
            elif leaf.kind == "subset" and not (wish and wish.options):
                self._subset(leaf)
            else:
                self._scalar(leaf, wish, bool(conditions))
        except NotSearchable as reason:
            if wish:
                raise SpaceError(f"{wish.source}: {name} cannot be searched: {reason}") from None
            self.left_out[name] = str(reason)

    def _scalar(self, leaf: Leaf, wish: Wish | None, conditional: bool) -> None:
        values = (wish.options if wish else ()) or leaf.choices
        weights = (wish.weights if wish else ()) or (leaf.weights if values == leaf.choices else ())
        if leaf.kind == "bool" and not values:
            values = (False, True)
        numeric = bool(values) and all(is_number(v) for v in values)
        if values and (weights or not numeric or (leaf.kind == "choice" and not self._related(leaf.name))):
            ordered = leaf.kind == "ordered" and not weights
            if weights:  # an option without weight is valid, but not searched
                values, weights = zip(*((v, w) for v, w in zip(values, weights, strict=True) if w), strict=True)
            self.codecs[leaf.name] = Options(leaf.name, tuple(values), ordered, weights)
            self.why[leaf.name] = (
                "the values asked for"
                if wish and wish.options
                else "both"
                if leaf.kind == "bool"
                else "all its options"
            )
            return
        if values:
            domain, values = self._enum_domain(leaf, values)
        elif leaf.domain is None:
            raise NotSearchable("its schema does not say what it may be")
        else:
            domain = leaf.domain
        domain = self._within_limit(leaf.name, domain)
        domain = relations.divisible(
            leaf.name, self.schema, self.base, domain, set(self.schema) & set(self.drafts)
        )
        if values and len([v for v in values if domain.problem(v) is None]) < 1:
            raise SpaceError(f"{leaf.name}: none of {list(values)} is {domain}")
        draft = Draft(leaf.name, domain, 0.0, conditional=conditional, base=self.base.get(leaf.name))
        if values:
            draft.range, draft.own_grid = Range(0, 0, grid=tuple(sorted(values))), True
        self.drafts[leaf.name] = draft

    def _related(self, name: str) -> bool:
        return any(name in (link.left, *link.relation.names) for link in self.links)

    def _enum_domain(self, leaf: Leaf, values: tuple[Any, ...]) -> tuple[Domain, tuple[Any, ...]]:
        whole = all(isinstance(v, int) for v in values)
        return leaf.domain or Domain(whole, min(values), max(values)), values

    def _within_limit(self, name: str, domain: Domain) -> Domain:
        limit = self.limits.get(name)
        if limit is None:
            return domain
        narrowed = domain.narrowed(high=float(limit))
        if narrowed.empty:
            raise SpaceError(f"{name}: must be {domain}, but at most {short(limit)} is possible here")
        return narrowed

    def _subset(self, leaf: Leaf) -> None:
        default = self._value(leaf)
        chosen = tuple(default) if isinstance(default, (list, tuple)) else ()
        options = tuple(
            o for o in leaf.choices
            if o in chosen or not (isinstance(o, str) and o.lower().replace("_", "-").split("-")[0] in _EXCLUSIVE)
        )  # fmt: skip
        known = tuple(o for o in chosen if o in options)
        if not options or leaf.min_items > len(options):
            raise NotSearchable("it has no options")
        self.codecs[leaf.name] = Subset(leaf.name, options, known, leaf.min_items, leaf.max_items)
        self.why[leaf.name] = "any subset" + (" but the empty one" if leaf.min_items else "")

    def _list(self, leaf: Leaf, wish: Wish | None) -> None:
        name = leaf.name
        if wish and wish.options:
            self.codecs[name] = Options(name, wish.options, False, wish.weights)
            self.why[name] = "the lists asked for"
            return
        default = self._value(leaf)
        if not isinstance(default, (list, tuple)):
            raise NotSearchable("it has no default list to start from")
        default = list(default)
        if leaf.items and leaf.items.choices:
            if not leaf.unique and len(set(map(str, default))) < len(default):
                raise NotSearchable("a list of options with repetitions is not modelled")
            self.codecs[name] = Subset(
                name, leaf.items.choices, tuple(default), leaf.min_items, leaf.max_items
            )
            self.why[name] = "any subset of what its elements may be"
            return
        self._numbers(leaf, wish, default)

    def _numbers(self, leaf: Leaf, wish: Wish | None, default: list[Any]) -> None:
        name, whole = leaf.name, lists.element_type(leaf, default)
        default = [coerced(e, "int" if whole else "float") for e in default]
        narrowed = wish is not None and wish.narrows
        steps = whole and lists.is_steps(name) and not narrowed
        sizes = len(default) > lists.MOST_AXES or (whole and len(default) > 1 and min(default) >= lists.SIZE)
        if sizes and not steps and not narrowed:
            family = lists.moving_lists(leaf, default, whole)
            if len(family) < 2:
                raise NotSearchable("its bounds leave no room around the default")
            self.codecs[name] = Options(name, family, ordered=True)
            self.why[name] = "all elements move together, half to twice the default"
            return
        moving = self.epochs_name if steps and self.epochs_name in self.drafts else None
        epochs = self._epochs()
        drafts = (
            lists.step_drafts(leaf, default, epochs, moving)
            if steps
            else lists.element_drafts(leaf, default, whole, wish)
        )
        links = lists.order_links(name, drafts, default)
        if leaf.unique and len(drafts) > 1 and len(links) < len(drafts) - 1:
            raise NotSearchable("its elements must differ and have no order to keep")
        if moving:
            links += [
                Link(d.name, relations.Relation("<", (moving,)), False, "inside the training") for d in drafts
            ]
        self.elements[name] = drafts
        self.list_links = [*getattr(self, "list_links", []), *links]
        order = "; they keep their order" if links and len(drafts) > 1 else ""
        self.why[name] = f"each element: {drafts[0].range.why}{order}"

    def _epochs(self) -> int | None:
        epochs = self.base.get(self.epochs_name) if self.epochs_name else None
        return int(epochs) if is_number(epochs) and epochs >= 1 else None

    # -- 4: ranges -------------------------------------------------------------------------------------------------

    def _ranges(self, candidates: list[str]) -> list[Link]:
        """Ranges for every draft; returns the relations between searched parameters."""
        moving = relations.narrow(self.drafts, self.links, self._numbers_of_base(), self.notes)
        waiting = [n for n in candidates if n in self.drafts]
        while waiting:
            name = waiting.pop(0)
            draft = self.drafts[name]
            draft.default = self._start(draft)
            only = self._range(draft)
            if only:
                wish = self.wishes.get(name)
                if wish:
                    raise SpaceError(f"{wish.source}: {name} cannot be searched: {only}")
                self.left_out[name] = only
                moving = self._freeze(name, moving)
                waiting = [n for n in candidates if n in self.drafts]  # what is fixed now has narrowed others
        for drafts in self.elements.values():
            self.drafts |= {d.name: d for d in drafts}
        return moving + getattr(self, "list_links", [])

    def _freeze(self, name: str, moving: list[Link]) -> list[Link]:
        """A draft with a single value becomes a fixed side of its relations."""
        frozen = self.drafts.pop(name)
        self.base[name] = frozen.default
        touched = [link for link in moving if name in (link.left, *link.relation.names)]
        rest = [link for link in moving if link not in touched]
        return rest + relations.narrow(self.drafts, touched, self._numbers_of_base(), self.notes)

    def _numbers_of_base(self) -> dict[str, Any]:
        """The base's values, numbers written as text read as numbers, and the spec's for names the schema lacks."""
        values = dict(self.base)
        for link in self.links:
            for name in (link.left, *link.relation.names):
                if name in self.schema and not is_number(values.get(name)) and name in values:
                    values[name] = coerced(values[name], "float")
                elif name not in values:
                    found, value = lookup(self.spec, tuple(name.split(".")))
                    if found:
                        values[name] = value
        self.base = values
        return values

    def _start(self, draft: Draft) -> float:
        """A valid number to search around: the default, or the nearest to it."""
        leaf = self.schema.leaf(draft.name)
        value = self._value(leaf)
        if draft.own_grid:
            grid = tuple(v for v in draft.range.grid if draft.domain.problem(v) is None)
            if not grid:
                raise SpaceError(f"{draft.name}: none of {list(draft.range.grid)} is {draft.domain}")
            draft.range = Range(grid[0], grid[-1], grid=grid)
            return min(grid, key=lambda v: (abs(v - value), v)) if is_number(value) else grid[len(grid) // 2]
        value = value if is_number(value) else typical(draft.name, draft.domain)
        start = draft.domain.nearest(value)
        if start is None:
            raise SpaceError(f"{draft.name}: no number is {draft.domain}")
        on_end = value in (draft.domain.low, draft.domain.high)
        draft.around = value if on_end and not draft.domain.stepped else start
        return start

    def _range(self, draft: Draft) -> str | None:
        """Set the draft's range; returns the reason when it holds a single value."""
        leaf, wish = self.schema.leaf(draft.name), self.wishes.get(draft.name)
        if draft.own_grid:
            why = "the values asked for" if wish and wish.options else "all its values, in order"
            draft.range = replace(draft.range, why=why)
        else:
            draft.range = self._search_range(draft, leaf, wish)
        found = draft.range
        count = len(found.grid) if found.grid else 2 if found.low < found.high else 1
        if count == 1 and draft.default != self._value(
            leaf
        ):  # not what the spec says, so every draw must say it
            draft.range, count = replace(found, grid=(draft.default,)), 2
        return None if count > 1 else f"{short(draft.default)} is the only valid value"

    def _search_range(self, draft: Draft, leaf: Leaf, wish: Wish | None) -> Range:
        heads = relations.head_counts(draft.name, self.schema, self.base, draft.domain)
        if len(heads) > 1 and not (wish and wish.narrows):
            return Range(heads[0], heads[-1], LOG, "divisors of hidden_dim", heads)
        hint = dict(leaf.hint)
        found = search_range(draft.name, draft.domain, draft.around, hint, leaf.default, self._epochs())
        if wish is None or (not wish.narrows and wish.log is None):
            return found
        return self._asked(draft, found, wish)

    def _asked(self, draft: Draft, found: Range, wish: Wish) -> Range:
        domain = draft.domain
        low = found.low if wish.low is None else wish.low
        high = found.high if wish.high is None else wish.high
        if wish.low is not None and wish.high is None:
            high = max(high, domain.high if math.isfinite(domain.high) else low * 10)
        if wish.high is not None and wish.low is None:
            low = min(low, domain.low if math.isfinite(domain.low) else high / 10)
        asked = domain.narrowed(low, high)
        if asked.empty:
            raise SpaceError(
                f"{wish.source}: {draft.name} must be {domain}, and nothing in [{short(low)}, {short(high)}] is"
            )
        draft.domain = asked
        draft.default = asked.nearest(draft.default) or asked.nearest(low) or low
        log = wish.log if wish.log is not None else found.scale == LOG or (low > 0 and high >= 100 * low)
        asked_range = rescaled(Range(low, high, LINEAR, f"as asked: {wish.source}"), log and high > 0, asked)
        asked_range = replace(closed(asked_range, asked), why=asked_range.why)
        if domain.stepped:
            asked_range = replace(asked_range, grid=asked.steps(asked_range.low, asked_range.high))
            if not asked_range.grid:
                raise SpaceError(f"{wish.source}: no number in the range is {domain}")
        return asked_range

    # -- 5: parameters ---------------------------------------------------------------------------------------------

    def _parameters(
        self, names: list[str], moving: list[Link], conditions: Mapping[str, tuple[Condition, ...]]
    ) -> tuple[Parameter, ...]:
        moving = [
            m for m in moving if m.left in self.drafts and any(n in self.drafts for n in m.relation.names)
        ]
        needs: dict[str, list[str]] = {n: [c.name for c in conditions[n]] for n in names}
        for name, drafts in self.elements.items():
            needs[name] = [*needs.get(name, ()), *(d.name for d in drafts)]
            needs |= {d.name: [] for d in drafts}
        for link in moving:
            needs.setdefault(link.left, []).extend(link.relation.names)
        for link in self.links:  # an order without a relation still shows a cycle
            if link.left in needs and link not in moving:
                needs[link.left].extend(n for n in link.relation.names if n in needs)
        order = relations.in_order(sorted(needs), needs)
        relations.propagate(self.drafts, moving, order, self.base)
        built, drawn = [], {n: self.base.get(n) for n in self._referenced()}
        for name in order:
            if name in names:
                built.append(self._parameter(name, conditions[name], drawn))
        return tuple(built)

    def _parameter(self, name: str, conditions: tuple[Condition, ...], drawn: dict[str, Any]) -> Parameter:
        leaf = self.schema.leaf(name)
        if name in self.elements:
            codec: Codec = ListOf(tuple(self._number(d, drawn) for d in self.elements[name]))
            kind = "list"
        elif name in self.drafts:
            codec = self._number(self.drafts[name], drawn)
            self.why[name] = self.drafts[name].range.why
            kind = "int" if codec.whole else "float"
        else:
            codec = self.codecs[name]
            kind = leaf.kind if leaf.kind != "text" else "choice"
        active = all(c.holds(drawn) for c in conditions)
        default = self._default(leaf, codec, drawn)
        if active:
            drawn[name] = default
        raws = codec.encode(default, dict(drawn))
        priors = tuple(axis.prior(raw) for axis, raw in zip(codec.axes, raws, strict=True))
        return Parameter(name, leaf.path, kind, default, codec, conditions, priors, self.why[name])

    def _number(self, draft: Draft, drawn: Mapping[str, Any]) -> Number:
        found, links = draft.range, tuple(draft.relations)
        share = None
        if found.moves and found.low > 0 and any(r.op in relations.UPPER for r in links):
            tops = [
                r.right(dict(drawn))
                for r in links
                if r.op in relations.UPPER and all(is_number(drawn.get(n)) for n in r.names)
            ]
            share = min(1.0, found.low / max(min([found.high, *tops]), 1))
        codec = Number(
            draft.name,
            draft.domain.whole,
            found.low,
            found.high,
            found.scale,
            draft.domain,
            found.grid,
            links,
            share,
        )
        return replace(codec, hull=self._hull(codec))

    def _hull(self, codec: Number) -> tuple[float, float]:
        """(lowest, highest) value over all that its relations look at."""
        if codec.grid or not codec.relations:
            return (codec.grid[0], codec.grid[-1]) if codec.grid else (codec.low, codec.high)
        names = {n for r in codec.relations for n in r.names}
        hulls = {n: self.drafts[n].hull if n in self.drafts else (self.base[n],) * 2 for n in names}
        corners = [codec.allowed({n: hull[side] for n, hull in hulls.items()}) for side in (0, 1)]
        return min(low for low, _ in corners), max(high for _, high in corners)

    def _default(self, leaf: Leaf, codec: Codec, drawn: dict[str, Any]) -> Any:
        """The base value where the space has it; otherwise the nearest, with a note."""
        name, value = leaf.name, self._value(leaf)
        if value is not None:
            try:
                codec.encode(value, dict(drawn))
                wrong = leaf.problem(value)
            except SpaceError as error:
                wrong = leaf.problem(value) or str(error)
            if wrong is None:
                return value
            if name in self.given and leaf.problem(value) and not same(value, leaf.default):
                raise SpaceError(f"{name} {leaf.problem(value)} (the spec's value)")
        usable = value if value is not None and not isinstance(value, (dict, bool)) else None
        if isinstance(codec, Number):
            start = usable if is_number(usable) else self.drafts[name].default
            used = codec.nearest(start, dict(drawn))
        else:
            used = codec.nearest(usable, dict(drawn))
        what = (
            ("its default is null" if name in self.base else "it has no default")
            if value is None
            else f"the default {short(value)} is not in the space: it {wrong}"
        )
        self.notes.append(f"{name}: {what}; {short(used)} is used instead")
        return used

    # -- helpers of several steps ----------------------------------------------------------------------------------

    def _value(self, leaf: Leaf) -> Any:
        return leaf.typed(self.base.get(leaf.name))

    def _check_fixed(self, candidates: list[str]) -> None:
        """A relation none of whose sides is searched must hold when somebody set one of them; else it is noted."""
        base = self._numbers_of_base()
        for link in self.links:
            names = (link.left, *link.relation.names)
            known = all(is_number(base.get(n)) for n in names) and link.relation.op != "after"
            if any(n in candidates for n in names) or not known or link.relation.holds(base[link.left], base):
                continue
            text = f"{link} does not hold: {', '.join(f'{n} is {short(base[n])}' for n in names)}"
            if any((w := self.wishes.get(n)) and w.fixed and w.has_value for n in names):
                raise SpaceError(f"{link.left}: {text}")
            self.notes.append(text)

    def _referenced(self) -> list[str]:
        """Names whose values conditions and relations look at."""
        names = [n for link in self.links for n in (link.left, *link.relation.names)]
        return list(dict.fromkeys(n for n in names if n in self.base))

    def _looked_at(self) -> dict[str, Any]:
        return {n: self.base[n] for n in self._referenced() if is_number(self.base[n])}

    def _validated(self, searched: list[str]) -> tuple[tuple[str, relations.Relation], ...]:
        """The relations that a configuration must keep: those the schema states, and those read into a searched one."""
        kept = [k for k in self.links if k.relation.op != "after" and (k.said or k.left in searched or k.why)]
        return tuple((k.left, k.relation) for k in kept)

    def _context(self, parameters: tuple[Parameter, ...]) -> tuple[tuple[str, Any], ...]:
        looked = {n for p in parameters for n in p.looks_at}
        return tuple((n, self.base[n]) for n in sorted(looked) if n in self.base)

    def _explain_disagreements(self) -> None:
        listed = self.schema.listed
        default, disabled = listed["automl_default_parameters"], listed["automl_disabled_parameters"]
        flags = {n: self.schema.flag(n) for n in self.schema}
        unlisted = [n for n, flag in flags.items() if flag and n not in default]
        self._note(
            unlisted if default else [],
            "flagged but not in automl_default_parameters",
            "the flag wins: searched",
        )
        self._note(
            [n for n in sorted(default) if flags.get(n) is False],
            "in automl_default_parameters but flagged false",
            "the flag wins: not searched",
        )
        self._note(
            [n for n in sorted(disabled) if flags.get(n)],
            "in automl_disabled_parameters but flagged true",
            "the flag wins: searched",
        )
        self._note(
            [n for n in sorted(default) if n in flags and flags[n] is None],
            "in automl_default_parameters without a flag",
            "searched",
        )
        self._note(
            [n for n in sorted(default) if n not in flags and n not in self.schema.sections],
            "in automl_default_parameters but not in the schema",
            "ignored",
        )

    def _note(self, names: list[str], what: str, verdict: str) -> None:
        if names:
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            self.notes.append(f"{what} ({verdict}): {shown}")


_ABSENT = object()


def find_epochs(schema: Schema) -> str | None:
    """The name of the parameter that holds the length of the training in epochs."""
    training = [n for n in sorted(schema) if n.split(".")[0] == "train" or "." not in n]
    return next((n for word in _EPOCHS for n in training if n.rsplit(".", 1)[-1] == word), None)


def base_values(
    schema: Schema, spec: Mapping[str, Any] | None, wishes: Mapping[str, Wish]
) -> tuple[dict[str, Any], set[str]]:
    """(value of every leaf that has one, the leaves that the spec or a person set)."""
    if spec is not None and not isinstance(spec, Mapping):
        raise SpaceError(f"a spec must be a mapping, but got {type(spec).__name__}")
    base: dict[str, Any] = {}
    given: set[str] = set()
    for name in schema:
        found, value = lookup(spec, schema.paths[name])
        if found and not is_missing(value):
            base[name] = value
            given.add(name)
        else:
            has, default = schema.default(name)
            if has:
                base[name] = default
        wish = wishes.get(name)
        if wish and wish.fixed and wish.has_value:
            base[name] = wish.value
            given.add(name)
    return base, given


def lookup(spec: Mapping[str, Any] | None, path: tuple[str, ...]) -> tuple[bool, Any]:
    """(is it there, value) of a leaf of a nested spec; `key[1]` is also found as the second element of `key`."""
    node: Any = spec
    for i, key in enumerate(path):
        if not isinstance(node, Mapping):
            return False, None
        if key not in node:
            base, _, index = key.partition("[")
            listed = node.get(base)
            if (
                i == len(path) - 1
                and index[:-1].isdigit()
                and isinstance(listed, list)
                and int(index[:-1]) < len(listed)
            ):
                return True, listed[int(index[:-1])]
            return False, None
        node = node[key]
    return True, node
