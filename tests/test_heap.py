"""The heap of the C library: set where it is glibc, left alone elsewhere."""

import ctypes
import platform

import pytest

from compact_biomed import machine

ALL = [machine.share_one_heap, machine.keep_freed_memory, machine.give_back_free_memory]


@pytest.mark.parametrize("set_heap", ALL)
def test_a_library_without_it_is_left_alone(set_heap, monkeypatch) -> None:
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: object())
    set_heap()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's functions")
def test_glibc_accepts_the_settings(monkeypatch) -> None:
    calls, mallopt = [], ctypes.CDLL(None).mallopt
    monkeypatch.setattr(machine, "_function", lambda name: lambda *a: calls.append((name, mallopt(*a))))
    machine.keep_freed_memory()
    assert calls == [("mallopt", 1), ("mallopt", 1)]  # 1: accepted
