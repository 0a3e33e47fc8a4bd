"""A signal asks to save; a second one stops; Linux's signals for one death of a parent are one."""

import signal
import threading

import pytest

from compact_biomed import interruption
from compact_biomed.interruption import StopRequest, Terminated, take_effect

TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.mark.parametrize("given", [[INT], [TERM], [TERM, TERM, TERM], [INT, TERM]])
def test_one_request_is_noted(given: list[int], capfd) -> None:
    request, before = StopRequest(), signal.getsignal(TERM)
    with request.heeded():
        assert request.signal is None
        for number in given:
            signal.raise_signal(number)
    assert request.signal == given[0] and signal.getsignal(TERM) is before
    assert capfd.readouterr().err.count("finishing this step") == 1


@pytest.mark.parametrize("given", [[INT, INT], [TERM, INT]])
def test_a_second_request_stops_at_once(given: list[int]) -> None:
    before = signal.getsignal(INT)
    with pytest.raises(KeyboardInterrupt), StopRequest().heeded():
        for number in given:
            signal.raise_signal(number)
    assert signal.getsignal(INT) is before


def test_a_later_sigterm_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "_ONE_DEATH", 0.0)
    with pytest.raises(KeyboardInterrupt), StopRequest().heeded():
        signal.raise_signal(TERM)
        signal.raise_signal(TERM)


def test_sigterm_takes_effect_as_ctrl_c_unless_the_user_handles_it() -> None:
    with pytest.raises(Terminated):
        take_effect(TERM)
    got = []
    before = signal.signal(TERM, lambda *arguments: got.append(arguments[0]))
    try:
        with pytest.raises(KeyboardInterrupt):
            take_effect(TERM)
    finally:
        signal.signal(TERM, before)
    assert got == [TERM]


def test_outside_the_main_thread_handlers_stay() -> None:
    before, seen = signal.getsignal(INT), []

    def work() -> None:
        with StopRequest().heeded():
            seen.append(signal.getsignal(INT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
