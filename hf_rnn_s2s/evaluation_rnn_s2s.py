"""
A model as it is in evaluation mode, while it stays in training mode itself.

`model.eval()` before a call and `model.train()` after it turn a switch that everybody else sees: another thread that
translates at the same time finds dropout on, one that trains finds it off, and whoever comes last leaves the model in
the wrong mode.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def in_evaluation_mode(model: Module) -> Module:
    """
    The model itself, if no module of it is in training mode. Otherwise a view of it in evaluation mode, for one call:
    its modules are new, and they have the same parameters, buffers and hooks. What somebody has put over a method of a
    module, such as accelerate's `forward` for mixed precision, goes on to the new modules.
    """
    modules = list(model.modules())
    if not any(module.training for module in modules):
        return model
    return _View(modules).of(model)


class _View:
    """
    New modules in the place of others.

    Args:
        modules: all of those that are to be replaced.
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        # By the id of a module or a function: what takes its place. Not through a constructor, which would draw
        # weights, nor copy.copy(), which torch refuses for modules with parametrized weights.
        self._new: dict[int, Any] = {id(module): object.__new__(type(module)) for module in modules}
        for module in modules:
            attributes = {name: self._attribute(value) for name, value in list(vars(module).items())}
            # A module that torch has compiled in place holds a call to itself: the new one runs as it is written.
            vars(self._new[id(module)]).update(attributes, training=False, _compiled_call_impl=None)

    def of(self, value: Any) -> Any:
        """A module or a function in this view; anything else as it is."""
        if isinstance(value, nn.Module):
            return self._new.get(id(value), value)
        if not callable(value) or isinstance(value, type):
            return value
        if id(value) not in self._new:
            self._new[id(value)] = value  # until it is known, for functions that call themselves
            parts, put_together = _taken_apart(value)
            new = [self.of(part) for part in parts]
            if any(part is not other for part, other in zip(parts, new, strict=True)):
                self._new[id(value)] = put_together(new)
                if isinstance(value, (FunctionType, functools.partial)):  # where they come from, for their signature
                    vars(self._new[id(value)]).update({name: self.of(one) for name, one in vars(value).items()})
        return self._new[id(value)]

    def _attribute(self, value: Any) -> Any:
        # Containers are copied: what a call adds, a hook or a cached tensor, is not to reach the module of the others.
        if isinstance(value, dict):
            copied = copy.copy(value)
            if copied:
                copied.update({key: self.of(one) for key, one in list(value.items())})
            return copied
        if type(value) in (list, set):
            return type(value)(self.of(one) for one in list(value))
        return self.of(value)


def _taken_apart(function: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """What something that can be called holds, and how another one is made that holds other things."""
    if isinstance(function, MethodType):
        return [function.__func__, function.__self__], lambda parts: MethodType(*parts)
    if isinstance(function, functools.partial):
        names, count = list(function.keywords), len(function.args) + 1
        return (
            [function.func, *function.args, *function.keywords.values()],
            lambda parts: functools.partial(*parts[:count], **dict(zip(names, parts[count:], strict=True))),
        )
    if isinstance(function, FunctionType):
        cells = function.__closure__ or ()
        return [_content(cell) for cell in cells], lambda parts: _with_closure(function, parts)
    attributes = dict(getattr(function, "__dict__", {}))
    return list(attributes.values()), lambda parts: _with_attributes(
        function, dict(zip(attributes, parts, strict=True))
    )


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return cell


def _with_closure(function: FunctionType, contents: list[Any]) -> FunctionType:
    # A cell whose content stays is shared, since it may be a counter.
    cells = tuple(
        cell if content is _content(cell) else CellType(content)
        for cell, content in zip(function.__closure__ or (), contents, strict=True)
    )
    other = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    other.__kwdefaults__ = function.__kwdefaults__
    return other


def _with_attributes(function: Any, attributes: dict[str, Any]) -> Any:
    other = object.__new__(type(function))
    vars(other).update(attributes)
    return other


__all__ = ["in_evaluation_mode"]
