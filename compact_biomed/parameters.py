"""Check the arguments of public functions against their annotations: a mistake is one line that names the parameter."""

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints, is_typeddict

from compact_biomed.errors import UsageError, shown

_NAMES = {  # type -> one value of it, several
    str: ("a string", "strings"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("True or False", "True or False"),
    Path: ("a path", "paths"),
    os.PathLike: ("a path", "paths"),
    NoneType: ("None", "None"),
}
_NO_FIT = object()  # in place of a value that does not have the type


@cache
def checked(function: Callable, public: str = "") -> Callable:
    """Return the function with a check of its arguments before each call, which raises a `UsageError`.

    A list may be any iterable, and a number one of numpy; the function gets lists and Python's numbers.

    Args:
        public: its name in `compact_biomed`, if it has one.
    """
    signature, name = inspect.signature(function), public or function.__name__
    see_help = f"see help(compact_biomed.{public})" if public else f"see the documentation of {name}"

    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        parameters = _parameters(function)
        if not parameters.any_other:
            refuse_unknown(keywords, parameters.types, where=name, otherwise=see_help)
        try:
            bound = signature.bind(*arguments, **keywords)
        except TypeError as error:  # one is missing, or there are too many
            raise UsageError(str(error), where=name, remedy=see_help) from error
        for each, value in bound.arguments.items():
            if signature.parameters[each].kind is inspect.Parameter.VAR_KEYWORD:
                typed = {key: as_typed(key, other, parameters.types.get(key, Any)) for key, other in value.items()}
            else:
                typed = as_typed(each, value, parameters.types.get(each, Any))
            bound.arguments[each] = typed
        return function(*bound.args, **bound.kwargs)

    if public:  # it is found there, by pickle too
        call.__module__, call.__name__, call.__qualname__ = "compact_biomed", public, public
    return call


def as_typed(name: str, value: Any, kind: Any) -> Any:
    """Return the value of a parameter, as `checked` gives it to a function.

    Args:
        kind: an annotation.

    Raises:
        UsageError: the value does not have this type.
    """
    typed = _typed(value, kind)
    if typed is _NO_FIT:
        raise UsageError(f"must be {_described(kind)}, not {shown(value)}", where=name)
    return typed


def refuse_unknown(names: Iterable[str], known: Iterable[str], *, where: str, otherwise: str) -> None:
    """Raise a `UsageError` for the first name that is no parameter of the function `where`; suggest the closest.

    Args:
        otherwise: the remedy where none is close.
    """
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            remedy = f"did you mean {near[0]}?" if near else otherwise
            raise UsageError(f"no parameter {name!r}", where=where, remedy=remedy)


def as_list(values: Any) -> list:
    """Return what may be one text, path or number, or several of them, as a list."""
    return [values] if isinstance(values, str | os.PathLike | int | float) else list(values)


class _Parameters(NamedTuple):
    """The parameters of a function.

    Args:
        types: annotations by name, those of a `TypedDict` of keywords included.
        any_other: whether the function takes keywords of any name.
    """

    types: dict[str, Any]
    any_other: bool


@cache
def _parameters(function: Callable) -> _Parameters:
    hints, types, any_other = get_type_hints(function), {}, False
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints.get(name, Any)
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            types[name] = kind
        elif get_args(kind) and is_typeddict(get_args(kind)[0]):  # Unpack[...]
            types |= get_type_hints(get_args(kind)[0])
        else:
            any_other = True
    return _Parameters(types, any_other)


def _typed(value: Any, kind: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    fits = True
    if kind is Any:
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # of numpy
        value = value.item()
    if origin in (Union, UnionType):
        return next((typed for each in arguments if (typed := _typed(value, each)) is not _NO_FIT), _NO_FIT)
    if kind is int:
        return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else _NO_FIT
    if kind is float:
        fits = isinstance(value, Real) and not isinstance(value, bool)
        return value if fits and type(value) is int else float(value) if fits else _NO_FIT
    if origin in (Mapping, dict):
        fits = isinstance(value, Mapping) and all(
            _typed(each, of) is not _NO_FIT for pair in value.items() for each, of in zip(pair, arguments, strict=True)
        )
    elif origin in (Sequence, list):
        return _listed(value, arguments[0])
    elif origin is Callable:
        fits = callable(value)
    else:
        fits = isinstance(value, os.PathLike if kind is Path else origin or kind)
    return value if fits else _NO_FIT


def _listed(values: Any, kind: Any) -> Any:
    """Return values as a list if each has the type."""
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping | os.PathLike):
        return _NO_FIT
    typed = [_typed(value, kind) for value in values]
    return _NO_FIT if any(each is _NO_FIT for each in typed) else typed


def _described(kind: Any, *, several: bool = False) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        words = list(dict.fromkeys(_described(each, several=several) for each in arguments))
        return " or ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])}, or {words[-1]}"
    if origin in (Mapping, dict):
        return f"a dictionary of {_described(arguments[1], several=True)}"
    if origin in (Sequence, list):
        return f"a list of {_described(arguments[0], several=True)}"
    if origin is Callable:
        return "a function"
    return _NAMES[kind][several] if kind in _NAMES else f"`{kind.__name__}`"
