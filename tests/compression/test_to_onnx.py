"""The comparison of logits, by hand."""

import numpy as np
import pytest

from compact_biomed.compression.to_onnx import Difference, compare, require
from compact_biomed.errors import UserError


def test_padding_is_left_out() -> None:
    right = np.array([[[3.0], [4.0], [100.0]]])
    mine = np.array([[[3.0], [4.5], [-7.0]]])
    found = compare([{"attention_mask": np.array([[1, 1, 0]])}], [right], [mine])
    assert found == Difference(0.5, 0.1, [[1, 3]])


def test_one_answer_a_text() -> None:
    mask = {"attention_mask": np.array([[1, 0], [1, 1]])}
    assert compare([mask], [np.array([[6.0], [8.0]])], [np.array([[6.0], [7.0]])]).relative == pytest.approx(0.1)


def test_other_shapes_and_what_is_no_number_are_refused() -> None:
    with pytest.raises(UserError, match="shape"):
        compare([{"attention_mask": np.ones((1, 1))}], [np.ones((1, 2))], [np.ones((1, 3))])
    for relative in (float("nan"), 1e-3):
        with pytest.raises(UserError, match="nothing was written"):
            require(Difference(1.0, relative, []), "fp32", where="m")
    require(Difference(1.0, 1e-3, []), "int8", where="m")
