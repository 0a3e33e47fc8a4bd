"""What is asked of the C library is there where it is glibc's, and elsewhere does nothing."""

import ctypes
import platform

import pytest

from compact_biomed import machine

ALL = [machine.share_one_heap, machine.keep_freed_memory, machine.give_back_free_memory]


@pytest.mark.parametrize("ask", ALL)
def test_a_library_without_it_is_left_alone(ask, monkeypatch) -> None:
    def of_windows(name):
        raise TypeError

    for library in (lambda name: object(), of_windows):
        monkeypatch.setattr(machine.ctypes, "CDLL", library)
        ask()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's functions")
def test_glibc_does_as_told(monkeypatch) -> None:
    told, mallopt = [], ctypes.CDLL(None).mallopt
    monkeypatch.setattr(machine, "_function", lambda name: lambda *a: told.append((name, mallopt(*a))))
    machine.keep_freed_memory()
    assert told == [("mallopt", 1), ("mallopt", 1)]  # 1: taken
