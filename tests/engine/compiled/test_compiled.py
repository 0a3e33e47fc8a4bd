"""The tensors that the loops compute on."""

import sys

import pytest
import torch

from compact_biomed.engine import compiled


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_they_are_for_one_type_on_cpus(dtype: torch.dtype, monkeypatch) -> None:
    x = torch.zeros(2, dtype=dtype)
    assert compiled.usable(x, x)
    assert not compiled.usable(x, x.double()) and not compiled.usable(x.half())
    assert not compiled.usable(x.bfloat16(), x.float())
    assert not compiled.usable(x.to("meta"))
    monkeypatch.setenv(compiled.OFF, "1")
    assert not compiled.usable(x)


def test_a_slow_first_step_is_announced_before_and_only_then(monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(compiled.cache, "folder", lambda: calls.append(True))
    compiled.announce()
    compiled.announce(torch.zeros(1, dtype=torch.float64))
    assert not calls
    compiled.announce(torch.zeros(1, dtype=torch.bfloat16))
    assert calls


def test_without_numba_the_user_is_told_and_torch_computes(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "compact_biomed.engine.compiled.parallel", None)
    monkeypatch.delattr(compiled, "parallel", raising=False)
    compiled.available.cache_clear()
    try:
        assert not compiled.usable(torch.zeros(2, dtype=torch.bfloat16))
        assert not compiled.usable(torch.zeros(2, dtype=torch.bfloat16))
    finally:
        compiled.available.cache_clear()
    assert capsys.readouterr().err.count("without the compiled loops") == 1


def test_products_of_other_libraries_are_left_alone_where_no_loop_computes(monkeypatch) -> None:
    limited = []
    monkeypatch.setattr(compiled, "_blas", lambda: type("", (), {"limit": lambda _, limits: limited.append(limits)})())
    with compiled.one_blas_thread(torch.zeros(2, dtype=torch.float64)):
        assert not limited


def test_a_module_that_is_none() -> None:
    with pytest.raises(ModuleNotFoundError):
        compiled.loops("nothing")
