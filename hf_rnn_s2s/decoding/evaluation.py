"""A model in evaluation mode, whichever mode the model itself is in.

`model.eval()` before a call and `model.train()` after it set a switch that everybody else sees: another thread that
translates at the same time finds dropout on, one that trains finds it off, and whoever comes last leaves the model in
the wrong mode. And looking at the switch before a call does not tell whether it changes during the call.
"""

from __future__ import annotations

import copy
import functools
import itertools
import operator
from collections.abc import Callable, Collection
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)

DEEPEST = 50  # how many functions inside each other are followed
# What accelerate puts around a forward pass in mixed precision: the only callable object that is rebuilt.
PRECISION_WRAPPER = ("accelerate.utils.operations", "ConvertOutputsToFp32")


class EvaluationView:
    """Gives a view of a model in evaluation mode, the same one until the model is changed. Threads may share it.

    A view has new modules with the same parameters, buffers and hooks. Functions that replace a method of a module,
    such as accelerate's `forward` for mixed precision, are rebuilt around the new modules. Callable objects stay as
    they are, since they may have a state, such as a counter; so do functions that are not written in Python. What a
    forward pass sets on its module is on the module of the view afterwards.
    """

    def __init__(self) -> None:
        self._made: _View | None = None

    def of(self, model: Module) -> Module:
        """The view of a model: of the same class, and in evaluation mode."""
        made = self._made
        if made is None or made.model is not model or not made.seen.is_as_before():
            made = self._made = _View(model)
        return made.view

    def __reduce__(self) -> tuple[type[EvaluationView], tuple[()]]:
        # A copied model needs a view of its own, so a copy starts without one.
        return type(self), ()


class _View:
    """New modules in place of all those of a model.

    Attributes:
        model: the model.
        view: the new module in place of the model.
        seen: what the view was made from.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.seen = model, _Seen()
        modules = list(model.modules())
        # The replacement of each module and function, by its id. Modules are made without their constructors, which
        # would draw weights, and without copy.copy(), which torch refuses for parametrized weights.
        self._new: dict[int, Any] = {id(module): object.__new__(type(module)) for module in modules}
        for module in modules:
            attributes = self.seen.content_of(vars(module), but="training")
            attributes = {name: self._attribute(value) for name, value in attributes.items()}
            vars(self._new[id(module)]).update(attributes, training=False)
        self.view = self._new[id(model)]

    def _attribute(self, value: Any) -> Any:
        # Containers are copied, so that a hook or a cached tensor that a call adds stays out of the original module.
        if isinstance(value, dict):
            copied = self.seen.content_of(value)
            if copied:
                copied.update({key: self._of(one) for key, one in copied.items()})
            return copied
        if type(value) in (list, set):
            return type(value)(self._of(one) for one in self.seen.content_of(value))
        return self._of(value)

    def _of(self, value: Any, depth: int = 0) -> Any:
        """The counterpart of a module or a function in this view; anything else as it is."""
        if isinstance(value, nn.Module):
            return self._new.get(id(value), value)
        if not callable(value) or depth > DEEPEST:
            return value
        if id(value) not in self._new:
            self._new[id(value)] = value  # until it is known, for functions that call themselves
            self._new[id(value)] = self._function(value, depth + 1)
        return self._new[id(value)]

    def _function(self, function: Any, depth: int) -> Any:
        parts, put_together = self._taken_apart(function)
        new = [self._of(part, depth) for part in parts]
        if all(part is other for part, other in zip(parts, new, strict=True)):
            return function
        other = self._new[id(function)] = put_together(new)
        if not isinstance(function, MethodType):  # where it comes from, for its signature, and what a wrapper holds
            attributes = self.seen.content_of(vars(function))
            vars(other).update({name: self._of(one, depth) for name, one in attributes.items()})
        return other

    def _taken_apart(self, function: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
        """What a function holds, and how to make another one that holds other things."""
        kind = type(function)
        if kind is MethodType:
            return [function.__func__, function.__self__], lambda parts: MethodType(*parts)
        if kind is functools.partial:
            names, count = list(function.keywords), len(function.args) + 1
            return (
                [function.func, *function.args, *function.keywords.values()],
                lambda parts: functools.partial(*parts[:count], **dict(zip(names, parts[count:], strict=True))),
            )
        if kind is FunctionType:
            cells = function.__closure__ or ()
            contents = [self.seen.content_of_cell(cell) for cell in cells]
            return contents, lambda parts: _with_closure(function, contents, parts)
        if (kind.__module__, kind.__qualname__) == PRECISION_WRAPPER:
            return list(self.seen.content_of(vars(function)).values()), lambda _: object.__new__(kind)
        return [], lambda _: function


class _Seen:
    """The content of some containers at one moment, so that it is cheap to check whether it is still the same."""

    def __init__(self) -> None:
        self._empty: list[Collection] = []
        self._filled: list[Collection] = []
        self._sizes: list[int] = []  # of those that are filled
        self._items: list[Any] = []  # of all these, one after the other; of dictionaries the keys
        self._dicts: list[dict] = []
        self._values: list[Any] = []
        self._counts: list[bool] = []  # whether it matters if another value stands in the place of one
        self._cells: list[CellType] = []
        self._contents: list[Any] = []

    def content_of(self, container: Any, but: str | None = None) -> Any:
        """A copy of a dictionary; the elements of a list or a set.

        Args:
            container: any of these.
            but: a key whose value may change.
        """
        # A copy of a set may have another order.
        copied: Any = copy.copy(container) if isinstance(container, dict) else list(container)
        if not copied:
            self._empty.append(container)
            return copied
        self._filled.append(container)
        self._sizes.append(len(copied))
        self._items.extend(copied)
        if isinstance(copied, dict):
            counts = [but is None or key != but for key in copied]
            self._dicts.append(container)
            self._counts.extend(counts)
            self._values.extend(itertools.compress(dict.values(copied), counts))
        return copied

    def content_of_cell(self, cell: CellType) -> Any:
        """What a closure's variable holds, if a view is made of it; else the cell itself."""
        self._cells.append(cell)
        self._contents.append(_content(cell))
        return self._contents[-1]

    def is_as_before(self) -> bool:
        """Whether all containers hold the same objects. It is asked before every call, so it has no loop in Python."""
        items = itertools.chain.from_iterable(self._filled)
        values = itertools.compress(itertools.chain.from_iterable(map(dict.values, self._dicts)), self._counts)
        return (
            not any(self._empty)
            and list(map(len, self._filled)) == self._sizes
            and all(map(operator.is_, items, self._items))
            and all(map(operator.is_, values, self._values))
            and all(map(operator.is_, map(_content, self._cells), self._contents))
        )


def _content(cell: CellType) -> Any:
    try:
        content = cell.cell_contents
    except ValueError:  # the variable has no value yet
        return cell
    return content if callable(content) else cell  # data, such as a counter, stays shared


def _with_closure(function: FunctionType, contents: list[Any], others: list[Any]) -> FunctionType:
    # A cell whose content stays is shared, since the function may set it.
    cells = tuple(
        cell if content is other else CellType(other)
        for cell, content, other in zip(function.__closure__ or (), contents, others, strict=True)
    )
    made = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__ = function.__kwdefaults__
    return made
