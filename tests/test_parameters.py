"""Arguments of public functions: what is accepted, and what a wrong one is told."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import pytest

import compact_biomed
from compact_biomed.errors import UsageError
from compact_biomed.parameters import as_typed, checked


class More(TypedDict, total=False):
    size: int | None


def work(
    path: str | Path | Mapping[str, str],
    *,
    seeds: int | Sequence[int] | None = None,
    rate: float | None = None,
    quick: bool = False,
    names: str | Sequence[str] = (),
    report: Callable[[str], None] = print,
    loss: str | Any = None,
    **more: Unpack[More],
) -> dict[str, Any]:
    return {"path": path, "seeds": seeds, "rate": rate, "quick": quick, "names": names, "loss": loss} | more


def test_lists_may_be_arrays_and_numbers_those_of_numpy() -> None:
    given = checked(work)(
        Path("a"), seeds=np.arange(2), rate=np.float32(0.5), names=iter("ab"), loss=work, size=np.int64(3)
    )
    assert given == {
        "path": Path("a"),
        "seeds": [0, 1],
        "rate": 0.5,
        "quick": False,
        "names": ["a", "b"],
        "loss": work,
        "size": 3,
    }
    assert [type(value) for value in (given["rate"], given["size"], *given["seeds"])] == [float, int, int, int]
    assert checked(work)({"a": "b"}, seeds=1, rate=1)["rate"] == 1


WRONG = [
    ({"rat": 1}, r"^work: no parameter 'rat' \(did you mean rate\?\)$"),
    ({"sise": 1}, r"did you mean size\?"),
    ({"xyz": 1}, r"see the documentation of work"),
    ({"seeds": "x"}, "^seeds: must be a whole number, a list of whole numbers, or None, not 'x'$"),
    ({"seeds": [1, 2.5]}, r"^seeds: .* not \[1, 2\.5\]$"),
    ({"seeds": True}, "^seeds: must be"),
    ({"rate": "0.1"}, "^rate: must be a number or None, not '0.1'$"),
    ({"quick": 1}, "^quick: must be True or False, not 1$"),
    ({"names": [None]}, "^names: must be a string or a list of strings, "),
    ({"report": 1}, "^report: must be a function"),
    ({"size": "x"}, "^size: must be a whole number or None"),
    ({"path": None}, "^path: must be a string, a path, or a dictionary of strings, not None$"),
    ({"path": {"a": 1}}, "^path: must be"),
]


@pytest.mark.parametrize("given, message", WRONG)
def test_a_wrong_argument_is_one_line(given: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checked(work)(**{"path": "a"} | given)


def test_missing_and_superfluous_arguments_are_told_too() -> None:
    with pytest.raises(UsageError, match=r"^work: missing a required argument: 'path'"):
        checked(work)()
    with pytest.raises(UsageError, match=r"^work: too many positional arguments"):
        checked(work)("a", "b")


def test_public_functions_are_checked() -> None:
    for call, message in (
        (lambda: compact_biomed.finetune("m", learnig_rate=0.1), "finetune: .*did you mean learning_rate"),
        (lambda: compact_biomed.compress("m", 1, seeds="x"), "^seeds: must be a whole number or a list"),
        (lambda: compact_biomed.pretrain(start="m", preset="smoke", max_length="x"), "^--max-length: must be a whole"),
        (lambda: compact_biomed.load(None), "^model: must be a string or a path, not None"),
        (lambda: compact_biomed.use_threads(0), "0 threads"),
    ):
        with pytest.raises(UsageError, match=message):
            call()
    assert compact_biomed.load is compact_biomed.load


def test_public_functions_go_to_other_processes() -> None:
    for name in compact_biomed.__all__:
        function = getattr(compact_biomed, name)
        assert pickle.loads(pickle.dumps(function)) is function


def test_scalars_of_numpy_are_values() -> None:
    assert as_typed("dry_run", np.True_, bool) is True
    assert as_typed("seeds", np.array(3), int | list[int]) == 3
