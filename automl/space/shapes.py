"""What each searched parameter may be: alone, and beside the others.

Alone it is a number's domain (before it is said where to look), options, a subset or a list: a `Shape`, or the reason
that there is no search space, as text. Beside the others, relations are made to hold by construction: one with a fixed
side narrows the other side's domain. One between two searched parameters stays with its left side, whose range moves
(codecs.py); here the domain of its right side is narrowed so that there is always room. Of two parameters that bound a
third from both sides, each keeps to its side of the third's default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress, pairwise
from typing import Any

from automl.errors import SpaceError
from automl.metric import counted
from automl.space.codecs import ListOf, Number, Options, Subset
from automl.space.leaf import EXACT, FLIPPED, LOWER, UPPER, Domain, Leaf, Relation, coerced, is_number, short
from automl.space.ranges import LOG, Range, reaching, role_of, search_range, typical
from automl.space.requests import Asked, Values, Wish, with_wish

Shape = Domain | Options | Subset | ListOf
Domains = Mapping[str, Domain]
HEADS = ("nheads", "n_heads", "num_heads", "num_attention_heads")
WIDTH = "hidden_dim"  # its heads divide it
# A list of integers by such a name holds the epochs at which a schedule steps.
_STEPS = re.compile(r"^(lr_|decay_)*(steps|step_list|(lr_)?milestones)$|_steps_list$|decay_step_list$")
MOST_AXES = 4  # a longer list moves as a whole
SIZE = 8  # integers from here on are taken for sizes, which move together
_EXCLUSIVE = ("all", "none")  # an option like "all-linear" stands alone, so it is no part of a subset


def shape(asked: Asked, leaf: Leaf, searched: Collection[str], related: bool) -> Shape | str:
    """What a leaf may be; `related` to others, its numbers stay numbers. Raises `SpaceError` for what contradicts the
    request, the data's limits or itself."""
    wish = asked.wish(leaf.name)
    if leaf.kind == "list":
        return _list(asked, leaf, wish, searched)
    if leaf.kind == "subset" and not wish.options:
        return _subset(asked, leaf)
    values = wish.options or leaf.options
    weights = wish.weights or (leaf.weights if values == leaf.choices else ())
    if values and (weights or not all(map(is_number, values)) or (leaf.kind == "choice" and not related)):
        why = wish.said if wish.options else "both" if leaf.kind == "bool" else "all its options"
        kept = tuple(compress(values, weights)) if weights else values  # one without weight is not searched
        return Options(
            leaf.name, kept, leaf.kind == "ordered" and not weights, tuple(filter(None, weights)), why
        )
    if not values and leaf.domain is None:
        return "its schema does not say what it may be"
    return domain_of(asked, leaf, values, searched)


def start_of(name: str, domain: Domain, value: Any) -> float:
    """A valid number to search around: the base's value, or the nearest to it."""
    if domain.values and not is_number(value):
        return domain.steps()[len(domain.steps()) // 2]
    start = domain.nearest(value if is_number(value) else typical(name, domain))
    if start is None:
        raise SpaceError(f"{name}: no number is {domain}")
    return start


def domain_of(asked: Asked, leaf: Leaf, values: tuple[Any, ...], searched: Collection[str]) -> Domain:
    """The schema's bounds, or those of `values`, under the data's limit, with the heads that must divide it, between
    the ends that are asked for."""
    name, wish, limit = leaf.name, asked.wish(leaf.name), asked.limits.get(leaf.name)
    domain = leaf.domain or Domain(all(isinstance(v, int) for v in values), min(values), max(values))
    limited = domain if limit is None else domain.narrowed(high=float(limit))
    if limited.empty:
        raise SpaceError(f"{name}: must be {domain}, but at most {short(limit)} is possible here")
    fitted = _divided_by_heads(asked, name, limited, searched)
    domain = replace(fitted, values=tuple(sorted(values)))
    if values and domain.empty:
        raise SpaceError(f"{name}: none of {list(values)} is {fitted}")
    return wish.inside(domain, name)


def heads_of(asked: Asked, name: str, domain: Domain) -> tuple[int, ...]:
    """The valid numbers of attention heads that divide the width beside them; () when `name` is none."""
    above, _, last = name.rpartition(".")
    width, count = asked.base.get(f"{above}.{WIDTH}".lstrip(".")), asked.base.get(name)
    if last not in HEADS or type(width) is not int or type(count) is not int or not 0 < count <= width:
        return ()
    near = () if width % count else range(max(1, count // 4), count * 4 + 1)
    return tuple(n for n in near if width % n == 0 and domain.holds(n))


def _divided_by_heads(asked: Asked, name: str, domain: Domain, searched: Collection[str]) -> Domain:
    """A width's domain such that every number of attention heads beside it divides it."""
    above, _, last = name.rpartition(".")
    heads = next((n for word in HEADS if (n := f"{above}.{word}".lstrip(".")) in asked.schema), "")
    counts = heads_of(asked, heads, Domain(True, 1))
    if last != WIDTH or not counts or domain.power:
        return domain
    return domain.where("/", float(math.lcm(*counts) if heads in searched else asked.base[heads]))


def _subset(asked: Asked, leaf: Leaf) -> Subset | str:
    default = asked.value(leaf.name)
    chosen = tuple(default) if isinstance(default, (list, tuple)) else ()
    options = tuple(
        o for o in leaf.choices
        if o in chosen or not (isinstance(o, str) and o.lower().replace("_", "-").split("-")[0] in _EXCLUSIVE)
    )  # fmt: skip
    if not options or leaf.min_items > len(options):
        return "it has no options"
    known = tuple(o for o in chosen if o in options)
    why = "any subset" + (" but the empty one" if leaf.min_items else "")
    return Subset(leaf.name, options, known, leaf.min_items, leaf.max_items, why)


def _list(asked: Asked, leaf: Leaf, wish: Wish, searched: Collection[str]) -> Shape | str:
    if wish.options:
        lists = tuple(compress(wish.options, wish.weights)) if wish.weights else wish.options
        return Options(leaf.name, lists, False, tuple(filter(None, wish.weights)), "the lists asked for")
    default = asked.value(leaf.name)
    if not isinstance(default, (list, tuple)):
        return "it has no default list to start from"
    if leaf.items and leaf.items.choices:
        if leaf.min_items > len(leaf.items.choices) or (
            not leaf.unique and len(set(map(str, default))) < len(default)
        ):
            return "a list of options with repetitions is not modelled"
        why = "any subset of what its elements may be"
        return Subset(leaf.name, leaf.items.choices, tuple(default), leaf.min_items, leaf.max_items, why)
    if own := [n for i in range(len(default)) if (n := f"{leaf.name}[{i}]") in asked.schema]:
        return f"its elements are parameters of their own, such as {own[0]}"
    if not default:
        return "an empty list tells neither its length nor its elements"
    if not leaf.min_items <= len(default) <= (math.inf if leaf.max_items is None else leaf.max_items):
        return f"its schema forbids as many elements as its default has, {len(default)}"
    if not all(map(is_number, default)):
        return "a list of anything but numbers needs options to choose from"
    typed = leaf.items.kind if leaf.items else ""
    whole = typed == "int" or (typed != "float" and all(isinstance(e, int) for e in default))
    numbers = [coerced(e, "int" if whole else "float") for e in default]
    if whole and _STEPS.search(leaf.name.rsplit(".", 1)[-1].lower()) and not wish.narrows:
        moving = asked.epochs_name if asked.epochs_name in searched else None
        return _steps(leaf, numbers, asked.epochs, moving)
    together = len(numbers) > MOST_AXES or (whole and len(numbers) > 1 and min(numbers) >= SIZE)
    if together and not wish.narrows:
        return _family(leaf, numbers, whole)
    return _elements(leaf, numbers, [_element(leaf, numbers, i, whole, wish) for i in range(len(numbers))])


def _family(leaf: Leaf, default: list[Any], whole: bool) -> Options | str:
    """The default list made larger and smaller as a whole, ascending, the default among them.

    Integers with a common divisor shift by it (480, 512, ... by 32); those that cannot shift down by it ([64, 64],
    [256, 128]) are scaled by 0.5 to 2 and stay multiples of an eighth or a quarter of it. All others are scaled.
    """
    step = math.gcd(*(int(e) for e in default)) if whole else 0
    grain = next((step // part for part in (8, 4) if step and step % part == 0), 1)
    down, up = (int(end) // (2 * step) if step else 0 for end in (min(default), max(default)))
    if step > 1 and (down or (up and grain == 1)):
        stride = max(1, math.ceil((down + up) / 32))
        shifts = [k * stride for k in range(-(down // stride), up // stride + 1)]
        lists: list[list[float]] = [[int(e) + k * step for e in default] for k in shifts]
    else:
        scaled = [[e * 2 ** (k / 4) for e in default] for k in range(-4, 5)]
        lists = [[round(e / grain) * grain if whole else float(f"{e:.6g}") for e in each] for each in scaled]
        lists[4] = lists[4] if whole else list(default)  # to its last digit
    kept = tuple(v for i, v in enumerate(lists) if leaf.problem(v) is None and v not in lists[:i])
    if len(kept) < 2:
        return "its bounds leave no room around the default"
    return Options(leaf.name, kept, True, (), "all elements move together, half to twice the default")


def _elements(
    leaf: Leaf, default: list[Any], numbers: Sequence[Number | str], moving: str | None = None
) -> ListOf | str:
    """The list of `numbers` that keeps the default's order; `moving` is a searched length that they stay inside."""
    if reason := next((n for n in numbers if isinstance(n, str)), None):
        return reason
    found = [n for n in numbers if isinstance(n, Number)]
    order = _order(default, found)
    if leaf.unique and len(order) < len(found) - 1:
        return "its elements must differ and have no order to keep"
    keeps = "; they keep their order" if (order or moving) and len(found) > 1 else ""
    kept = []
    for number, value in zip(found, default, strict=True):
        inside = [Relation(number.name, "<", moving)] if moving else []
        domain, relations = number.domain, [*(r for r in order if r.left == number.name), *inside]
        # Who is pushed along stays what the word means: a share within 0 and 1, also where the schema leaves that open.
        if order and role_of(number.name).share and 0 <= value <= 1 and not domain.whole:
            domain = domain.narrowed(0.0, 1.0)
        kept.append(replace(number, domain=domain, relations=tuple(relations)))
    return ListOf(tuple(kept), f"each element: {found[0].range.why}{keeps}")


def _order(default: list[Any], numbers: Sequence[Number]) -> list[Relation]:
    """The default's own order as relations between neighbours whose ranges overlap."""
    rising = all(a < b for a, b in pairwise(default))
    if not rising and not all(a > b for a, b in pairwise(default)):
        return []
    found = []
    for before, after in pairwise(numbers):
        low, high = (before, after) if rising else (after, before)
        if low.range.high >= high.range.low:
            found.append(Relation(after.name, ">" if rising else "<", before.name))
    return found


def _steps(leaf: Leaf, default: list[int], epochs: int | None, moving: str | None) -> ListOf | str:
    """The steps of a schedule. Their values are the epochs inside the training, and the default's steps where they lie
    beyond it, which mean "never". With `moving`, a searched number of epochs, the range follows it."""
    if epochs is None:
        return "the length of the training is not known"
    inside = range(max(1, epochs // 10), epochs)
    if len(inside) < len(default):
        return f"a training of {counted(epochs, 'epoch')} has no room for {counted(len(default), 'step')}"
    never = [v for v in default if v >= epochs]
    why = f"a tenth of the {epochs} epochs to the last"
    why += "; beyond them means never" if never and not moving else ""
    found = []
    for i in range(len(default)):
        domain = leaf.item_domain(i) or Domain(True, 1)
        grid = tuple(v for v in sorted({*inside, *never}) if domain.holds(v))
        if len(grid) < len(default) + 1:
            return "its bounds leave no room in the training"
        stays = replace(domain, values=grid), Range.of(grid, why=why)
        follows = domain, Range(grid[0], max(inside[-1], *default), why=why)
        found.append(Number(f"{leaf.name}[{i}]", *(follows if moving else stays)))
    return _elements(leaf, default, found, moving)


def _element(leaf: Leaf, default: list[Any], index: int, whole: bool, wish: Wish) -> Number | str:
    """One element of a list of numbers, around its default."""
    domain, name = leaf.item_domain(index) or Domain(whole), f"{leaf.name}[{index}]"
    ends = (wish.low, wish.high)
    if odd := [end for end in ends if isinstance(end, list) and len(end) != len(default)]:
        raise SpaceError(f"the range must have {len(default)} elements, but got {odd[0]!r}")
    low, high = (end[index] if isinstance(end, list) else end for end in ends)
    for end in (low, high):
        if end is not None and domain.whole and abs(end) > EXACT:
            raise wish.error(f"an end of an integer's range must be at most 2**53, but got {end!r}")
        if end is not None and not domain.low <= end <= domain.high:
            raise wish.error(f"{leaf.name} must be {domain}, but got {short(end)}")
    if low is not None and high is not None and low > high:
        raise wish.error(f"low must be <= high, but got {short(low)} and {short(high)}")
    start = domain.nearest(default[index])
    if start is None:
        return f"no number is {domain}"
    found = search_range(name, domain, start)
    if not wish.narrows and wish.log is None:
        return Number(name, domain, found)
    own = replace(wish, low=low, high=high)
    inside = own.inside(domain, leaf.name)  # its neighbours push it no further
    return Number(name, inside, with_wish(found, inside, own))


def number_range(asked: Asked, name: str, domain: Domain) -> Range:
    """A person's range, or what the name, default and bounds of a number suggest."""
    leaf, wish, value = asked.schema.leaf(name), asked.wish(name), asked.value(name)
    start, heads = start_of(name, domain, value), heads_of(asked, name, domain)
    if domain.values:
        why = wish.said if wish.options else "all its values, in order"
        found = Range.of(domain.steps(), why=why)
    elif len(heads) > 1 and not wish.narrows:
        found = Range.of(heads, LOG, f"divisors of {WIDTH}")
    else:
        on_end = is_number(value) and value in (domain.low, domain.high) and not domain.stepped
        found = search_range(name, domain, value if on_end else start, leaf, asked.epochs)
        if wish.narrows or wish.log is not None:
            found = with_wish(found, domain, wish)
    if wish.recommended or not wish.narrows:  # what a person asks for is not left
        found = reaching(name, found, domain)
    alone = len(found.grid) == 1 or (not found.grid and found.low >= found.high)
    return replace(found, grid=(start,)) if alone and start != value else found


# ---- beside the others ----------------------------------------------------------------------------------------------


def elements_of(shapes: Mapping[str, Shape]) -> dict[str, Number]:
    """The elements of lists, by name."""
    return {e.name: e for each in shapes.values() if isinstance(each, ListOf) for e in each.elements}


def settle(
    asked: Asked, shapes: Mapping[str, Shape], relations: Sequence[Relation], base: Values, offs: Values
) -> tuple[Domains, Domains, list[Relation], list[str]]:
    """(the numbers' domains beside what is fixed, the same with room for each other, the relations between those that
    still have several values, notes).

    One rule: a side is narrowed until the other can always follow. `offs` are what some numbers are while they do not
    matter. Raises `SpaceError` when a relation cannot hold.
    """
    elements = elements_of(shapes)
    domains = {name: domain for name, domain in shapes.items() if isinstance(domain, Domain)}
    domains |= {name: element.domain for name, element in elements.items()}
    starts = {name: start_of(name, domain, asked.value(name)) for name, domain in domains.items()}
    every = [*relations, *(relation for element in elements.values() for relation in element.relations)]
    known = [r for r in every if r.op != "after" and any(n in domains for n in r.sides)]
    silent = {r: text for r in known if (text := _says_nothing(r, domains, base))}
    spoken = [r for r in known if r not in silent]
    names = {name for relation in spoken for name in relation.sides}
    fixed = {name: Domain(False, base[name], base[name]) for name in names if name not in domains}
    wide = _beside_fixed({**domains, **fixed}, spoken, offs, base)
    free = [relation for relation in spoken if all(wide[n].only is None for n in relation.sides)]
    found = dict(wide)
    for relation in free:
        _check_equality(relation, found, every)
    needs = {r.left: [other.right for other in free if other.left == r.left] for r in free}
    for name in reversed(in_order(found, needs)):
        mine = [relation for relation in free if relation.left == name]
        for relation, op, value in _demands(found[name], mine, starts.get(name)):
            right = relation.right
            found[right] = _where(right, found[right], relation, op, value)
            off = offs.get(right)
            if off is not None and found[right].narrowed(off, off).empty:
                raise SpaceError(f"{name}: {relation.text} cannot hold while {right} is {short(off)}")
    narrow = _beside_fixed(found, spoken, offs, base)
    moving = [relation for relation in spoken if all(narrow[n].only is None for n in relation.sides)]
    return {n: wide[n] for n in domains}, {n: narrow[n] for n in domains}, moving, list(silent.values())


def _says_nothing(relation: Relation, domains: Domains, base: Values) -> str | None:
    """The note on a relation one of whose sides has no number."""
    for name in relation.sides:
        if name not in domains and not is_number(base.get(name)):
            absent = f"neither the schema nor the spec has {name}"
            what = f"{name} is {short(base[name])}, not a number" if name in base else absent
            return f"{relation.text}: {what}, so the relation says nothing"
    return None


def _beside_fixed(domains: Domains, relations: Sequence[Relation], offs: Values, base: Values) -> Domains:
    """Each side of a relation narrowed to the other's only value, and to its value while it does not matter, which is
    what the trainer then has; until nothing more follows. What the right side is while the left one moves beside it is
    looked at when that is drawn. Two values that are both the base's are as they are."""
    found = dict(domains)
    for relation in relations:
        right = found[relation.right]
        if right.only is not None:
            for value in dict.fromkeys((right.only, offs.get(relation.right, right.only))):
                found[relation.left] = _where(
                    relation.left, found[relation.left], relation, relation.op, value
                )
        if right.only is None or right.only != base.get(relation.right):
            known = found[relation.left].only, offs.get(relation.left)
            for value in (value for value in known if value is not None):
                op = FLIPPED[relation.op]
                found[relation.right] = _where(relation.right, found[relation.right], relation, op, value)
    return found if found == domains else _beside_fixed(found, relations, offs, base)


def _where(name: str, domain: Domain, relation: Relation, op: str, value: float) -> Domain:
    found = domain.where(op, value)
    if found.empty:
        would = f"{name} would have to be {op} {short(value)} and {domain}"
        raise SpaceError(f"{relation.left}: {relation.text} cannot hold: {would}")
    return found


def _demands(
    domain: Domain, relations: Sequence[Relation], start: float | None
) -> Iterator[tuple[Relation, str, float]]:
    """(relation, operator, value) such that the left side has a value whenever the right one is `operator value`: the
    left side's last valid one on that side; between two that bound it from both sides, its start."""
    lower, upper = ([r for r in relations if r.op in ops] for ops in (LOWER, UPPER))
    between = lower and upper and lower != upper
    for op, relation in [(">=", r) for r in lower] + [("<=", r) for r in upper]:
        far, is_open = (start, False) if between and start is not None else domain.far(above=op == ">=")
        if math.isfinite(far):
            yield relation, FLIPPED[op[0] if is_open or relation.op in (">", "<") else op], far


def _check_equality(relation: Relation, domains: Domains, relations: Sequence[Relation]) -> None:
    """Of two searched parameters that must be equal, the left one follows, so it must be free to."""
    left, right = domains[relation.left], domains[relation.right]
    others = [r for r in relations if r is not relation and relation.left in r.sides]
    free = left.whole == right.whole and not (left.stepped or left.excluded or left.values or others)
    if relation.op == "==" and not free:
        what = f"{relation.text} cannot be kept for every draw: fix one of the two"
        raise SpaceError(f"{relation.left}: {what}")


def in_order(names: Iterable[str], needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Those that others look at come first, otherwise as given. Raises `SpaceError` showing a cycle."""
    known, order = set(names), dict[str, None]()
    trail: list[str] = []

    def visit(name: str) -> None:
        if name in trail:
            cycle = [*trail[trail.index(name) :], name]
            raise SpaceError(f"{cycle[0]}: depends_on goes round in a circle: {' -> '.join(cycle)}")
        if name not in order:
            trail.append(name)
            for other in sorted(n for n in needs.get(name, ()) if n in known):
                visit(other)
            order[trail.pop()] = None

    for name in names:
        visit(name)
    return list(order)
