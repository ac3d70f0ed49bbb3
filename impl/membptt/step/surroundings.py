"""What a step finds around it: its modules' tensors and training modes, and the variables of its closure."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, compress, filterfalse, islice, repeat
from operator import attrgetter, is_
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm

from membptt.step.modules import modules_below, named_below
from membptt.step.reach import Named, Reach, Variable, variables_of
from membptt.torch_private import SpectralParametrization, buffers_of, parameters_of, pre_hooks_of, version, versions

_mode: Final[Callable[[nn.Module], bool]] = attrgetter("training")
_graph: Final = attrgetter("grad_fn")
_requires_grad: Final = attrgetter("requires_grad")
_OF_EVERY_MODULE: Final = frozenset(vars(nn.Module()))
_MANY: Final = 64  # longer containers hold data
_NUMBERS: Final = frozenset({bool, int, float, complex, str, type(None)})
_CONTAINERS: Final = frozenset({list, tuple, dict})
_LISTED: Final = (Tensor, nn.Module)


@dataclass(slots=True)
class Surroundings:
    """What the step found around it when `scan` was called, and what a recomputation finds there again.

    Put back are, of every module that the step is or names and of those below it, parameters, buffers and attributes
    that are tensors, as objects, and the training mode; and the variables of the step's closure and globals. What the
    step itself assigns to is its own and is left to it. What was changed in place stays changed, except the vectors of
    spectral norms, which `Generators` rewinds. Containers and other objects are not looked into, so that nothing here
    grows with what they hold.
    """

    modules: tuple[nn.Module, ...]
    modes: list[bool]
    at_call: _AtCall
    variables: tuple[tuple[Variable, Any], ...]
    vectors: tuple[Tensor, ...]
    watched: list[Any]  # tensors in tables, in short containers there, and those that the step names by themselves
    versions: tuple[int | None, ...]
    alone: tuple[str, ...]  # names of the last ones
    aside: list[tuple[Variable, Any]] = field(default_factory=list)  # places that are put back now, what was there

    @classmethod
    def of(cls, reached: Reach) -> Surroundings:
        """Take note of what is around what a step reaches."""
        roots = tuple([pair for pair in reached.named if isinstance(pair[1], nn.Module)])
        modules = modules_below(module for _, module in roots)
        alone = [(name, _held(value)) for name, value in reached.named if isinstance(value, Tensor)]
        at_call = _AtCall(roots)
        left = at_call.take(modules)
        names, most = named_below(roots) if left else {}, len(modules) + _MANY
        for module in left:
            hidden: list[tuple[str, nn.Module]] = []
            for table in _tables(module, names[module], hidden):
                at_call.add(table)
            for below, name in named_below(hidden).items() if hidden else ():
                if below not in names and len(names) < most:
                    names[below] = name
                    modules.append(below)
                    left += at_call.take([below], name)
        at_call.kinds = [*map(type, map(dict.get, *at_call.others))]
        watched = [*at_call.watched, *(held for _, held in alone)]
        return cls(
            tuple(modules),
            [*map(_mode, modules)],
            at_call,
            tuple([(variable, _held(variable.read())) for variable in variables_of(reached.functions)]),
            tuple(chain.from_iterable(map(_vectors, compress(modules, map(buffers_of, modules))))),
            watched,
            _versions(watched),
            tuple([name for name, _ in alone]),
        )

    @property
    def tables(self) -> list[_Table]:
        """What was in the dicts of all modules."""
        return self.at_call.tables()

    def settle(self) -> None:
        """Take note, after the first pass, of what the step itself replaced: that is its own, and is not put back.

        Were it, a state with a gradient might pass for a constant.
        """
        for table in () if self.at_call.tensors_stand() else self.tables:
            table.own |= {*table.replaced()}

    def frozen(self) -> frozenset[int]:
        """Return the identities of what wants no gradient now; `watched` keeps it."""
        return frozenset(map(id, filterfalse(_requires_grad, self.tensors())))

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Put everything back; on the way out, what was there on the way in.

        What others than the step put in its place meanwhile, such as a hook, stays.
        """
        entries = _Entries.of(self.tables) if not self.at_call.stands() else None  # as nearly always
        modes = [*map(_mode, self.modules)]
        moved = [*self._moved(self.tables if entries is not None else ())]
        self.aside = [(place, place.read()) for place, _ in moved]
        try:
            for place, value in moved:
                place.assign(value)
            if modes != self.modes:
                _set_modes(self.modules, self.modes)
            yield
        finally:
            aside, self.aside = self.aside, []
            for place, value in aside:
                place.assign(value)
            _set_modes(self.modules, modes)
            if entries is not None:
                for table, before in entries.where_others():
                    table.restore(before)
            elif not self.at_call.stands():
                for table in self.tables:
                    table.restore(table.before)

    @contextmanager
    def as_now(self) -> Iterator[None]:
        """Leave what was put back for what is there now."""
        then = [(place, place.read()) for place, _ in self.aside]
        for place, value in self.aside:
            place.assign(value)
        try:
            yield
        finally:
            self.aside = [(place, place.read()) for place, _ in then]
            for place, value in then:
                place.assign(value)

    def _moved(self, tables: Iterable[_Table]) -> Iterator[tuple[Variable, Any]]:
        """Yield the places, of modules in `tables`, at which there is something else than at the call, and that."""
        for table in tables:
            yield from table.moved()
        for variable, held in self.variables:
            if not variable.written and (value := _given(held)) is not _GONE and variable.read() is not value:
                yield variable, value

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Leave everything, on the way out, as it was on the way in, what the step assigns to included: a trial."""
        entries = _Entries.of(self.tables)
        modes = [*map(_mode, self.modules)]
        variables = [(variable, variable.read()) for variable, _ in self.variables if variable.written]
        try:
            yield
        finally:
            for variable, value in variables:
                variable.assign(value)
            _set_modes(self.modules, modes)
            for table, before in entries.where_others():
                table.undo(before)

    def inside(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the buffers and attributes of modules that are tensors, each with its number."""
        for number, held in self.at_call.inside:
            if isinstance(tensor := _given(held), Tensor):
                yield number, tensor

    def tensors(self) -> list[Tensor]:
        """Return every tensor that was found and is there still."""
        tensors = self._found()
        return self.watched if tensors is self.watched else [each for each in tensors if isinstance(each, Tensor)]

    def numbered(self) -> Iterator[tuple[int, Tensor]]:
        """Yield every tensor that was found, with its number."""
        return ((number, tensor) for number, tensor in enumerate(self._found()) if isinstance(tensor, Tensor))

    def _found(self) -> Iterable[Any]:
        return map(_given, self.watched) if weakref.ref in map(type, self.watched) else self.watched

    def names(self) -> list[str]:
        """Return the names of all tensors, by their numbers."""
        return [*(table.full(key) for table in self.tables for key, _ in table.watched()), *self.alone]

    def changed(self) -> list[int]:
        """Return the numbers of the tensors that were changed in place since the call."""
        now = _versions(self.watched)
        if now == self.versions:
            return []
        pairs = enumerate(zip(now, self.versions, strict=True))
        return [number for number, (version, before) in pairs if version is not None and version != before]

    def replaced(self) -> Iterator[str]:
        """Yield the names of what is another object, or another number, than at the call."""
        for table in self.tables:
            for key, number in table.numbers.items():
                if _another(table.entries.get(key), number):
                    yield table.full(key)
            yield from map(table.full, table.replaced())
            inner = _inner(table.entries.items()) if table.inner and table.entries else {}
            yield from (
                table.full(key) for key, held in table.inner.items() if inner and inner.get(key) is not _given(held)
            )
        for variable, held in self.variables:
            value, before = variable.read(), _given(held)
            if variable.written and (_another(value, before) if type(before) in _NUMBERS else value is not before):
                yield variable.name


@dataclass(slots=True)
class _Table:
    """A dict in which a module keeps tensors.

    Args:
        name: of the module.
        kind: ``parameter``, ``buffer`` or ``attribute``.
        entries: the dict.
        before: the tensors in it at the call, by key.
        inner: tensors in short containers, by key and index.
        numbers: what else is in it and easily compared.
        others: keys of all else that is in it, but for what every module has.
        own: keys of what the step itself replaces.
    """

    name: str
    kind: str
    entries: dict[str, Any]
    before: dict[str, Any]
    inner: dict[str, Any]
    numbers: dict[str, Any]
    others: Sequence[str]
    own: frozenset[str] = frozenset()

    def watched(self) -> Iterator[tuple[str, Any]]:
        """Yield what is kept of the tensors in it, and in its short containers, by key."""
        for entries in (self.before, self.inner):
            yield from (pair for pair in entries.items() if pair[1] is not None)

    def replaced(self) -> list[str]:
        """Return the keys at which there are other tensors now."""
        return [key for key, held in self.before.items() if self.entries.get(key) is not _given(held)]

    def moved(self) -> Iterator[tuple[Variable, Any]]:
        """Yield the places of other tensors than at the call, and those; except what the step replaces."""
        for key in self.replaced():
            tensor = _given(self.before[key])
            if key not in self.own and tensor is not _GONE:
                yield Variable(key, self.entries, written=False), tensor

    def restore(self, entries: dict[str, Any]) -> None:
        """Put the tensors among `entries` in their places; take out those that the step replaces and they have not.

        Where there was one at the call which the step left there, somebody else has put another.
        """
        for key, value in entries.items():
            other = self.entries.get(key, _GONE) is not value and (key in self.own or key not in self.before)
            if other and (self.kind != "attribute" or isinstance(value, Tensor)):
                self.entries[key] = value
        for key in self.own - entries.keys():
            self.entries.pop(key, None)

    def undo(self, entries: dict[str, Any]) -> None:
        """Put the tensors and numbers among `entries` in their places, and take out those that are new."""
        for key in [*self.entries]:
            value = self.entries[key]
            if key not in entries and (isinstance(value, Tensor) or type(value) in _NUMBERS):
                del self.entries[key]
        for key, value in entries.items():
            plain = self.kind != "attribute" or isinstance(value, Tensor) or type(value) in _NUMBERS
            if plain and self.entries.get(key, _GONE) is not value:
                self.entries[key] = value

    def full(self, key: str) -> str:
        """Return the qualified name of an entry."""
        return f"{self.name}.{key}".lstrip(".")


@dataclass(slots=True)
class _AtCall:
    """What was in tables at the call, in lists: a look at each table by itself takes several times as long.

    Most modules hold parameters without a graph and, beside them, no tensors. Their tables are made when they are asked
    for: some thousands of objects at every call of a deep chain are felt, above all in garbage collection.

    Attributes:
        named: the modules that the step names.
        dicts: that of each table.
        sizes: how many entries it had.
        places: dict and key of every tensor.
        tensors: what is kept of them.
        others: dict and key of everything else among the attributes of a module.
        kinds: the types of these, which hold nothing.
        watched: all tensors, those in short containers among them.
        inside: those of them that are no parameters, with their numbers.
        owners: the module of each table, or the name of that.
        own: keys of attributes in each table that is made when it is asked for; of parameters there are none.
        values: of all these attributes, where they are numbers.
        built: the other tables, and all of them once they were asked for.
    """

    named: Named
    dicts: list[dict[str, Any]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    places: tuple[list[dict[str, Any]], list[str]] = field(default_factory=lambda: ([], []))
    tensors: list[Any] = field(default_factory=list)
    others: tuple[list[dict[str, Any]], list[str]] = field(default_factory=lambda: ([], []))
    kinds: list[type] = field(default_factory=list)
    watched: list[Any] = field(default_factory=list)
    inside: list[tuple[int, Any]] = field(default_factory=list)
    owners: list[nn.Module | str] = field(default_factory=list)
    own: list[tuple[str, ...]] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    built: list[_Table | None] = field(default_factory=list)

    def take(self, modules: Sequence[nn.Module], name: str | None = None) -> list[nn.Module]:
        """Take note of modules that hold parameters without a graph and, beside them, no tensors; return the others.

        Such as scripted ones, which hold what they are in C++.
        """
        scripted = {kind for kind in {*map(type, modules)} if issubclass(kind, torch.jit.ScriptModule)}
        plain = [module for module in modules if not (buffers_of(module) or type(module) in scripted)]
        own, places, values = _attributes(plain)
        holding = {kind for kind in {*map(type, values)} if kind in _CONTAINERS or issubclass(kind, _LISTED)}
        if holding:
            full = {id(table) for table, value in zip(places[0], values, strict=True) if _holds(value, holding)}
            plain = [module for module in plain if id(vars(module)) not in full]
            own, places, values = _attributes(plain)
        parameters = [*map(parameters_of, plain)]
        dicts = [*filter(None, parameters)]
        tensors = [*chain.from_iterable(map(dict.values, dicts))]
        there = [tensor for tensor in tensors if tensor is not None]
        if any(map(_graph, there)):
            return [*modules]
        self.watched += there
        self.tensors += tensors
        self._note(dicts, dicts, self.places)
        self.owners += [name or module for module in compress(plain, parameters)]
        self.own += repeat((), len(dicts))
        self._note([*map(vars, compress(plain, own))], [*filter(None, own)], self.others)
        self.owners += [name or module for module in compress(plain, own)]
        self.own += filter(None, own)
        # Of other objects nothing is kept: a list may come to hold what has the graph of this very call.
        self.values += [value if type(value) in _NUMBERS else _GONE for value in values]
        self.built += repeat(None, len(self.dicts) - len(self.built))
        if len(plain) == len(modules):
            return []
        taken = {*map(id, plain)}
        return [module for module in modules if id(module) not in taken]

    def add(self, table: _Table) -> None:
        """Take note of a table."""
        entries = table.entries
        self._note([entries], [table.before], self.places)
        self.owners.append(table.name)
        self.own.append(())
        self.built.append(table)
        self.others[0].extend(repeat(entries, len(table.others)))
        self.others[1].extend(table.others)
        self.tensors += table.before.values()
        held = [held for _, held in table.watched()]
        self.inside += enumerate(held, len(self.watched)) if table.kind != "parameter" else ()
        self.watched += held

    def _note(
        self,
        dicts: Sequence[dict[str, Any]],
        keys: Sequence[Collection[str]],
        to: tuple[list[dict[str, Any]], list[str]],
    ) -> None:
        self.dicts += dicts
        self.sizes += map(len, dicts)
        to[0].extend([entries for entries, own in zip(dicts, keys, strict=True) for _ in own])
        to[1].extend(chain.from_iterable(keys))

    def tables(self) -> list[_Table]:
        """Return all tables."""
        tables: list[_Table] = []
        names = named_below(self.named) if None in self.built else {}
        held = zip(self.places[1], self.tensors, strict=True)
        values = iter(self.values)
        columns = zip(self.built, self.owners, self.dicts, self.sizes, self.own, strict=True)
        for built, owner, entries, size, own in columns:
            table = built
            if table is not None:
                deque(islice(held, len(table.before)), maxlen=0)
            else:
                name = owner if isinstance(owner, str) else names.get(owner, type(owner).__name__)
                if own:
                    pairs = zip(own, islice(values, len(own)), strict=True)
                    numbers = {key: value for key, value in pairs if type(value) in _NUMBERS}
                    table = _Table(name, "attribute", entries, _NONE, _NONE, numbers, own)
                else:
                    table = _Table(name, "parameter", entries, dict(islice(held, size)), _NONE, _NONE, _NO_KEYS)
            tables.append(table)
        self.built[:] = tables
        return tables

    def tensors_stand(self) -> bool:
        """Whether the very tensors of the call are in their places."""
        return all(map(is_, map(dict.get, *self.places), self.tensors))

    def stands(self) -> bool:
        """Whether there is no other tensor besides, either."""
        sizes, kinds = map(len, self.dicts), map(type, map(dict.get, *self.others))
        return self.tensors_stand() and [*sizes] == self.sizes and [*kinds] == self.kinds


class _Entries(NamedTuple):
    """What was in tables, all of it in two lists: a dict for each takes several times as long.

    Args:
        tables: the tables.
        sizes: how many entries each had.
        keys: of all entries.
        values: of all entries.
    """

    tables: Sequence[_Table]
    sizes: list[int]
    keys: list[str]
    values: list[Any]

    @classmethod
    def of(cls, tables: Sequence[_Table]) -> _Entries:
        dicts = [table.entries for table in tables]
        values = [*chain.from_iterable(map(dict.values, dicts))]
        return cls(tables, [*map(len, dicts)], [*chain.from_iterable(dicts)], values)

    def where_others(self) -> Iterator[tuple[_Table, dict[str, Any]]]:
        """Yield the tables in which there is something else now, and what was in each of them."""
        now = _Entries.of(self.tables)
        if now.sizes == self.sizes and now.keys == self.keys and all(map(is_, now.values, self.values)):
            return
        entries = zip(self.keys, self.values, strict=True)
        for table, size in zip(self.tables, self.sizes, strict=True):
            before = dict(islice(entries, size))
            if table.entries.keys() != before.keys() or not all(
                map(is_, map(table.entries.get, before), before.values())
            ):
                yield table, before


def _set_modes(modules: Sequence[nn.Module], modes: Sequence[bool]) -> None:
    if [*map(_mode, modules)] != modes:
        for module, mode in zip(modules, modes, strict=True):
            if module.training != mode:
                module.training = mode


def _vectors(module: nn.Module) -> list[Tensor]:
    """Return the vectors that a spectral norm improves at every call, in place: they are rewound as generators are."""
    vectors = []
    if isinstance(module, SpectralParametrization):
        vectors += [vector for vector in buffers_of(module).values() if vector is not None]
    for hook in pre_hooks_of(module):
        if isinstance(hook, SpectralNorm):
            vectors += [getattr(module, f"{hook.name}_{side}") for side in "uv"]
    return vectors


def _tables(module: nn.Module, name: str, hidden: list[tuple[str, nn.Module]]) -> Iterator[_Table]:
    """Yield the tables of a module; `hidden` are modules that it keeps in attributes and does not register."""
    if isinstance(module, torch.jit.ScriptModule):  # its tensors lie in C++: they are watched, and stay where they are
        inner = {key: _held(tensor) for key, tensor in module.named_parameters(recurse=False)}
        yield _Table(name, "parameter", {}, {}, inner, {}, _NO_KEYS)
        inner = {key: _held(tensor) for key, tensor in module.named_buffers(recurse=False)}
        yield _Table(name, "buffer", {}, {}, inner, {}, _NO_KEYS)
        return
    if parameters := parameters_of(module):
        yield _Table(name, "parameter", parameters, _all_held(parameters), _NONE, _NONE, _NO_KEYS)
    if buffers := buffers_of(module):
        yield _Table(name, "buffer", buffers, _all_held(buffers), _NONE, _NONE, _NO_KEYS)
    before, numbers, containers = {}, {}, []
    attributes = vars(module)
    own = _own_keys(tuple(attributes))
    for key in own:
        value = attributes[key]
        if type(value) in _NUMBERS:
            numbers[key] = value
        elif isinstance(value, Tensor):
            before[key] = _held(value)
        elif type(value) in _CONTAINERS:
            containers.append((key, value))
        elif isinstance(value, nn.Module):
            hidden.append((f"{name}.{key}", value))
    inner = _all_held(_inner(containers)) if containers else _NONE
    hidden += [(f"{name}.{key}", item) for key, item in _items(containers) if isinstance(item, nn.Module)]
    if before or inner or numbers:
        others = tuple([key for key in own if key not in before])  # which garbage collection need not look at
        yield _Table(name, "attribute", attributes, before or _NONE, inner, numbers or _NONE, others)


@lru_cache(maxsize=256)
def _own_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the attributes of a module that not every one has."""
    return tuple(filterfalse(_OF_EVERY_MODULE.__contains__, keys))


def _attributes(
    modules: Sequence[nn.Module],
) -> tuple[list[tuple[str, ...]], tuple[list[dict[str, Any]], list[str]], list[Any]]:
    """Return the keys of each module's own attributes; where all of these are, dict and key; and their values."""
    tables = [*map(vars, modules)]
    own = [*map(_own_keys, map(tuple, tables))]
    places = [table for table, keys in zip(tables, own, strict=True) for _ in keys], [*chain.from_iterable(own)]
    return own, places, [*map(dict.__getitem__, *places)]


def _holds(value: Any, holding: Collection[type]) -> bool:
    """Whether an attribute of a module is a tensor or a module, or a short container with any."""
    if type(value) in _CONTAINERS:
        items = value.values() if type(value) is dict else value
        return len(value) <= _MANY and any(isinstance(item, _LISTED) for item in items)
    return type(value) in holding


def _inner(entries: Iterable[tuple[str, Any]]) -> dict[str, Tensor]:
    """Return the tensors in short containers among the attributes of a module."""
    return {key: item for key, item in _items(entries) if isinstance(item, Tensor)}


def _items(entries: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield what is in short containers among the attributes of a module."""
    for key, value in entries:
        if type(value) in _CONTAINERS and key not in _OF_EVERY_MODULE and len(value) <= _MANY:
            for index, item in value.items() if type(value) is dict else enumerate(value):
                yield f"{key}[{index!r}]", item


_GONE: Final = object()
_NO_KEYS: Final[tuple[str, ...]] = ()
_NONE: Final[dict[str, Any]] = {}  # one for all: what is made at every call for every module is felt


def _held(value: Any) -> Any:
    """Return what keeps `value`: for a tensor with a graph, weakly, or the graphs of all calls would hang together."""
    return weakref.ref(value) if isinstance(value, Tensor) and value.grad_fn is not None else value


def _given(held: Any) -> Any:
    """Return what is kept; `_GONE` where it is no more."""
    if not isinstance(held, weakref.ref):
        return held
    value = held()
    return _GONE if value is None else value


def _versions(watched: Sequence[Any]) -> tuple[int | None, ...]:
    if weakref.ref not in map(type, watched):
        return versions(watched)
    return tuple([version(tensor) if tensor is not _GONE else None for tensor in map(_given, watched)])


def _all_held(tensors: Mapping[str, Tensor | None]) -> dict[str, Any]:
    return {
        key: value if value is None or value.grad_fn is None else weakref.ref(value) for key, value in tensors.items()
    }


def _another(value: Any, before: Any) -> bool:
    return type(value) is not type(before) or value != before
