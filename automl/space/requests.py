"""What a search space is asked to be: `--tune`, `--fix`, the `search:` block of a spec file, what the model recommends.

--tune NAME                    search it, where the schema or its default says
--tune NAME=low:high[:log]     search it there; `:linear` is the other scale
--tune NAME=a,b,c              search these values; each is YAML, so lists work too: [0.9,0.99],[0.9,0.999]
--fix NAME=value               do not search it, use this value; without =value, the spec's

search:                        {dotted or nested name: entry}
  train.optim.lr: {valid_min: 1.0e-5, valid_max: 1.0e-3, log: true}
  model.body: {valid_options: [small, large], option_weights: [1, 3]}
  dataset.batch_size: false    # as --fix; true is as --tune

However it is written, a request for one parameter becomes an entry, and an entry a `Wish`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

from automl.documents import load_yaml
from automl.dotted import MISSING, get
from automl.errors import SpaceError, SpecError, did_you_mean
from automl.space.dialect import as_bool, as_number, checked_weights
from automl.space.leaf import EXACT, UNSET, Domain, Leaf, coerced, is_number, short
from automl.space.ranges import COMPLEMENT, LINEAR, LOG, Range, rescaled
from automl.space.schema import Schema

Values = Mapping[str, Any]  # dotted name -> value
# Searched unless named: what is flagged, the model's choice, all that can be.
GROUPS = ("tao", "recommended", "all")
ENTRY_KEYS = ("valid_min", "valid_max", "valid_options", "option_weights", "log")
EPOCHS = ("num_epochs", "epochs", "epoch", "max_epochs", "n_epochs", "total_epochs")
_SCALES = {"": None, "log": True, "linear": False, "lin": False}


@dataclass(frozen=True)
class Wish:
    """One parameter's request. `source` is how it was written, for messages."""

    source: str = ""
    fixed: bool = False
    value: Any = MISSING  # of a fixed one; MISSING: the spec's
    low: Any = None  # a number, or a list of them for a list
    high: Any = None
    log: bool | None = None
    options: tuple[Any, ...] = ()
    weights: tuple[float, ...] = ()
    why: str = ""  # the model's reason, of one that nobody asked for but the model recommends

    @property
    def recommended(self) -> bool:
        return bool(self.why)

    @property
    def said(self) -> str:
        """Why its range is what it is, or its options are what they are."""
        if self.options:
            return f"the values {'recommended' if self.recommended else 'asked for'}"
        return "as recommended" if self.recommended else f"as asked: {self.source}"

    @property
    def narrows(self) -> bool:
        return self.low is not None or self.high is not None or bool(self.options)

    def around(self, value: Any) -> Wish:
        """A recommendation with a value of the base configuration in it, which is always searched."""
        if self.options:
            return replace(self, options=self.options if value in self.options else (*self.options, value))
        if not is_number(value) or isinstance(self.low, list) or isinstance(self.high, list):
            return self
        low = None if self.low is None else min(self.low, value)
        return replace(self, low=low, high=None if self.high is None else max(self.high, value))

    def inside(self, domain: Domain, name: str) -> Domain:
        """The part of a number's domain between the ends that are asked for. Raises `SpaceError` where nothing is."""
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        found = domain.narrowed(low, high)
        if found.empty and self.narrows:
            raise self.error(f"{name} must be {domain}, and nothing in [{short(low)}, {short(high)}] is")
        return found

    def error(self, text: str) -> SpaceError:
        return SpaceError(f"{self.source}: {text}")


def with_wish(found: Range, domain: Domain, wish: Wish) -> Range:
    """The range and scale that a person asked for; what is None stays as it was found. Raises `SpaceError` where no
    valid number is in it."""
    low, high = wish.low, wish.high
    start, end = found.low if low is None else low, found.high if high is None else high
    if low is not None and high is None:
        end = max(end, domain.high if math.isfinite(domain.high) else low * 10)
    if high is not None and low is None:
        start = min(start, domain.low if math.isfinite(domain.low) else high / 10)
    if wish.log and (start < 0 or end <= 0):
        hint = "valid_min gives one" if end > 0 else "leave log out"
        raise wish.error(f"a log scale needs low > 0, but it would begin at {short(start)} ({hint})")
    # Up to a 1 that is asked for it cannot be kept: no step of it reaches 1.
    near_one = found.scale == COMPLEMENT and start < 1 and (end < 1 or (high is None and end == 1))
    is_log = wish.log if wish.log is not None else found.scale == LOG or (start > 0 and end >= 100 * start)
    if wish.log is None and near_one:
        asked = Range(start, end, COMPLEMENT, wish.said).within(domain)
    else:
        asked = rescaled(Range(start, end, LINEAR, wish.said), is_log and end > 0, domain).within(domain)
    if not domain.stepped:
        return asked
    if grid := domain.steps(asked.low, asked.high):
        return replace(asked, grid=grid)
    raise wish.error(f"no number in the range is {domain}")


@dataclass(frozen=True)
class Asked:
    """What a compilation starts from. `base` has every leaf's value: the request's, else the spec's, else the
    schema's default; `given` names the leaves that somebody set."""

    schema: Schema
    spec: Mapping[str, Any]
    wishes: Mapping[str, Wish]
    limits: Mapping[str, float]
    base: Mapping[str, Any]
    given: frozenset[str]
    group: str = "tao"  # one of GROUPS

    def wish(self, name: str) -> Wish:
        return self.wishes.get(name, Wish())

    def insists(self, name: str) -> Wish | None:
        """A person's request for the parameter: what stands in its way is then an error."""
        wish = self.wishes.get(name)
        return None if wish is None or wish.recommended else wish

    def let_go(self, reasons: Mapping[str, str]) -> None:
        """Raises `SpaceError` where a person asks for a parameter that cannot be searched: {name: why}."""
        for name, reason in reasons.items():
            if wish := self.insists(name):
                raise wish.error(f"{name} cannot be searched: {reason}")

    def value(self, name: str) -> Any:
        """The base value in the leaf's own type; of `name[1]`, that element of a list."""
        if name in self.schema:
            return self.schema.leaf(name).typed(self.base.get(name))
        whole, _, index = name.rpartition("[")
        return self.value(whole)[int(index[:-1])]

    @property
    def fixed(self) -> tuple[tuple[str, Any], ...]:
        """The leaves that a request fixes, with their values."""
        fixed = {n: wish.value for n, wish in sorted(self.wishes.items()) if wish.fixed and n in self.base}
        return tuple((n, self.value(n) if value is MISSING else value) for n, value in fixed.items())

    @cached_property
    def epochs_name(self) -> str | None:
        """The parameter that holds the length of the training in epochs."""
        training = [n for n in sorted(self.schema) if n.split(".")[0] == "train" or "." not in n]
        return next((n for word in EPOCHS for n in training if n.rsplit(".", 1)[-1] == word), None)

    @property
    def epochs(self) -> int | None:
        """The length of the training of the base configuration."""
        epochs = self.base.get(self.epochs_name) if self.epochs_name else None
        return int(epochs) if is_number(epochs) and epochs >= 1 else None


def ask(schema: Schema, spec: Any, wishes: Mapping[str, Wish], limits: Values, group: str) -> Asked:
    """The base configuration under the requests."""
    if spec is not None and not isinstance(spec, Mapping):
        raise SpaceError(f"a spec must be a mapping, but got {type(spec).__name__}")
    wished = {n: w.value for n, w in wishes.items() if w.value is not MISSING}
    given = {n: wished.get(n, get(spec, n, MISSING)) for n in schema}
    given = {n: v for n, v in given.items() if v is not MISSING and v != UNSET}
    base = {n: given.get(n, schema.defaults.get(n)) for n in schema if n in given or n in schema.defaults}
    asked = Asked(schema, spec or {}, wishes, limits, base, frozenset(given), group)
    around = {n: w.around(asked.value(n)) if w.recommended else w for n, w in wishes.items()}
    return replace(asked, wishes=around)


# ---- reading -------------------------------------------------------------------------------------------------------


def read_wishes(
    schema: Schema, tune: Sequence[str], fix: Any, search: Any, recommended: Mapping[str, Any]
) -> dict[str, Wish]:
    """Every request by parameter; the command line wins over the block, and that over what the model recommends. Raises
    `SpaceError` for a name the schema does not have, a value outside it, or a parameter both tuned and fixed."""
    if search is not None and not isinstance(search, Mapping):
        raise SpaceError(f"search: must be a mapping of parameters, but got {search!r}")
    ours = dict(_recommended(schema, recommended))
    block = dict(_wish(schema, name, entry, f"search: {name}") for name, entry in _entries(search or {}, ""))
    tuned = dict(_tuned(schema, text) for text in _texts(tune, "--tune"))
    if isinstance(fix, Mapping):
        fixed = dict(_fixed(schema, name, value, f"--fix {name}") for name, value in fix.items())
    else:
        fixed = dict(_fixed_text(schema, text) for text in _texts(fix, "--fix"))
    if clash := sorted(set(tuned) & set(fixed)):
        raise SpaceError(f"{clash[0]}: --tune and --fix both name it")
    return {**ours, **block, **tuned, **fixed}


def named(tune: Sequence[str], fix: Sequence[str], search: Any) -> Iterator[tuple[str, str]]:
    """(how, the name as it is written) of every request, whatever its value; of what is no request, nothing."""
    for how, texts in (("--tune", tune), ("--fix", fix)):
        yield from ((how, text.partition("=")[0].strip()) for text in texts)
    for name, _ in _entries(search, "") if isinstance(search, Mapping) else ():
        yield "search:", name.strip()


def _texts(texts: Sequence[str], what: str) -> list[str]:
    if isinstance(texts, (str, Mapping)) or not all(isinstance(text, str) for text in texts):
        raise SpaceError(f"{what} must be a list of texts, but got {texts!r}")
    return list(texts)


def _tuned(schema: Schema, text: str) -> tuple[str, Wish]:
    source = f"--tune {text}"
    name, sign, right = text.partition("=")
    leaf = schema.leaf(schema.known(name, source))
    parts = [part.strip() for part in right.split(":")]
    entry: Any = True
    if len(parts) in (2, 3) and all(isinstance(coerced(part, "float"), float) for part in parts[:2]):
        scale = parts[2].lower() if len(parts) == 3 else ""
        if scale not in _SCALES:
            raise SpaceError(f"{source}: the scale must be log or linear, but got '{parts[2]}'")
        entry = {"valid_min": parts[0], "valid_max": parts[1], "log": _SCALES[scale]}
    elif sign and (any(mark in right for mark in "[{,") or leaf.kind in ("bool", "choice", "text")):
        must = "values must be YAML, separated by commas"
        entry = {"valid_options": _yaml(f"[{right}]", right, source, must)}
    elif sign:
        raise SpaceError(f"{source}: must be NAME, NAME=low:high[:log] or NAME=a,b,c (--fix sets one value)")
    return _wish(schema, name, entry, source)


def _fixed_text(schema: Schema, text: str) -> tuple[str, Wish]:
    source = f"--fix {text}"
    name, sign, right = text.partition("=")
    if not sign:
        return _wish(schema, name, False, source)
    known = schema.known(name, source)
    return _fixed(schema, known, _yaml(right, right, source, "value must be YAML") if right else "", source)


def _fixed(schema: Schema, name: str, value: Any, source: str) -> tuple[str, Wish]:
    known = schema.known(name, source)
    return known, Wish(source, fixed=True, value=_valid(schema.leaf(known), value, source))


def _yaml(text: str, written: str, source: str, must: str) -> Any:
    try:
        return load_yaml(text, source)
    except SpecError:
        raise SpaceError(f"{source}: the {must}, but got '{written}'") from None


def _recommended(schema: Schema, entries: Mapping[str, Any]) -> Iterator[tuple[str, Wish]]:
    """{name: reason}, or {name: {why: reason, and the keys of an entry of `search:`}}."""
    for name, entry in entries.items():
        source = f"recommended: {name}"
        keys = dict(entry) if isinstance(entry, Mapping) else {"why": entry}
        why = keys.pop("why", None)
        if not isinstance(why, str) or not why:
            raise SpaceError(f"{source}: must be a reason, or a mapping with `why`, but got {entry!r}")
        known, wish = _wish(schema, name, keys, source)
        yield known, replace(wish, why=why)


def _entries(block: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """(dotted name, entry); a mapping none of whose keys is an entry's is a section."""
    for key, value in block.items():
        if isinstance(value, Mapping) and value and not any(k in ENTRY_KEYS for k in value):
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _wish(schema: Schema, name: str, entry: Any, source: str) -> tuple[str, Wish]:
    """(the parameter, its request) of an entry."""
    known = schema.known(name, source)
    leaf = schema.leaf(known) if entry is not False else None
    if leaf is None or entry is None or entry is True or entry == {}:
        return known, Wish(source, fixed=entry is False)
    if not isinstance(entry, Mapping):
        keys = ", ".join(ENTRY_KEYS)
        raise SpaceError(f"{source} must be a mapping of {keys}, or true or false, but got {entry!r}")
    if odd := [str(key) for key in entry if key not in ENTRY_KEYS]:
        raise SpaceError(f"{source}: unknown key '{odd[0]}'{did_you_mean(odd[0], ENTRY_KEYS)}")
    log, weights = as_bool(entry.get("log"), source, "log"), entry.get("option_weights")
    if entry.get("valid_options") is not None:
        return known, _options_wish(leaf, entry["valid_options"], source, weights)
    if weights is not None:
        if not leaf.options:
            raise SpaceError(f"{source}: {leaf.name} has no options to weigh; valid_options gives some")
        return known, Wish(source, weights=checked_weights(weights, len(leaf.options), source))
    ends: list[Any] = []
    for key in ("valid_min", "valid_max"):
        raw = entry.get(key)
        each = [as_number(end, source, key) for end in raw] if isinstance(raw, (list, tuple)) else None
        ends.append(as_number(raw, source, key) if each is None else each)
    nothing = ends == [None, None] and log is None
    return known, Wish(source) if nothing else _range_wish(leaf, ends, log, source)


def _range_wish(leaf: Leaf, ends: Sequence[Any], log: bool | None, source: str) -> Wish:
    """A range with its ends in the leaf's type: any numbers between the schema's bounds; steps and open ends are kept
    when drawing. Raises `SpaceError` when it leaves the schema."""
    if leaf.kind not in ("int", "float", "list", "ordered"):
        raise SpaceError(f"{source}: {leaf.name} is of type {leaf.word or leaf.kind}, it has no range")
    each = [end if isinstance(end, list) and leaf.kind == "list" else [end] for end in ends]
    if odd := [end for end in chain(*each) if end is not None and not is_number(end)]:
        raise SpaceError(f"{source}: an end of the range must be a finite number, but got {odd[0]!r}")
    if leaf.kind == "list":
        return _checked_scale(Wish(source, low=ends[0], high=ends[1], log=log), each[0])
    domain, (low, high) = leaf.domain, (coerced(end, leaf.kind) for end in ends)
    for end in (end for end in (low, high) if end is not None):
        if domain and domain.whole and abs(end) > EXACT:
            raise SpaceError(f"{source}: an end of an integer's range must be at most 2**53, but got {end!r}")
        if domain and domain.whole and end != int(end):
            raise SpaceError(f"{source}: {leaf.name} must be {domain}, but got {end!r}")
        if domain and not domain.low <= end <= domain.high:
            raise SpaceError(f"{source}: {leaf.name} must be {domain}, but got {short(end)}")
    if low is not None and high is not None and low >= high:
        raise SpaceError(f"{source}: low must be < high, but got {short(low)} and {short(high)}")
    return _checked_scale(Wish(source, low=low, high=high, log=log), [low])


def _checked_scale(wish: Wish, lows: Sequence[Any]) -> Wish:
    if wish.log and (odd := [low for low in lows if low is not None and low <= 0]):
        raise wish.error(f"a log scale needs low > 0, but got {short(odd[0])}")
    return wish


def _options_wish(leaf: Leaf, raw: Any, source: str, weights: Any) -> Wish:
    if not isinstance(raw, (list, tuple)) or len(raw) == 0:
        raise SpaceError(f"{source}: the options must be a list of values, but got {raw!r}")
    options = [_valid(leaf, value, source) for value in raw]
    if twice := [value for i, value in enumerate(options) if value in options[:i]]:
        raise SpaceError(f"{source}: {twice[0]!r} is there twice")
    if len(options) < 2:
        hint = f"--fix {leaf.name}={short(options[0])} sets one"
        raise SpaceError(f"{source}: a search needs two values or more ({hint})")
    shares = () if weights is None else checked_weights(weights, len(options), source)
    return Wish(source, options=tuple(options), weights=shares)


def _valid(leaf: Leaf, value: Any, source: str) -> Any:
    """YAML's reading of a value in the leaf's type: text stays text, "1e-4" of a float is a number."""
    as_text = leaf.kind in ("text", "choice") and not isinstance(value, (str, bool)) and value is not None
    typed = value if as_text else leaf.typed(value)
    if as_text and leaf.problem(value) and leaf.problem(str(value)) is None:
        typed = str(value)
    if wrong := leaf.problem(typed):
        raise SpaceError(f"{source}: {leaf.name} {wrong}")
    return typed
