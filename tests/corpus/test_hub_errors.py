"""What the hub's clients report, in a few words: by the status, the setting and the network, however it is wrapped."""

from types import SimpleNamespace

import pytest
import requests
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from compact_biomed.corpus import hub
from compact_biomed.errors import UserError


def answer(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    error = kind.__new__(kind, "of the client")
    error.response = SimpleNamespace(status_code=status)
    return error


class Foreign(Exception):
    """An error of a package of HTTP that is called by a version, as httpx2."""

    __module__ = "httpx2._exceptions"


CASES = {
    "unauthorized": (answer(RepositoryNotFoundError, 401), "gives no access (401)"),
    "gated": (answer(HfHubHTTPError, 403), "gives no access (403)"),
    "absent": (answer(RepositoryNotFoundError, 404), "nothing of this name (404)"),
    "out of order": (answer(HfHubHTTPError, 502), "an error (502): try again"),
    "offline": (OfflineModeIsEnabled("x"), "HF_HUB_OFFLINE"),
    "refused": (ConnectionRefusedError(111, "x"), hub.UNREACHABLE),
    "slow": (requests.ReadTimeout("x"), hub.UNREACHABLE),
    "another client": (Foreign("x"), hub.UNREACHABLE),
    "not cached": (LocalEntryNotFoundError("x"), hub.UNREACHABLE),
}


@pytest.mark.parametrize("name", CASES)
def test_the_reason_is_found_however_it_is_wrapped(name: str, monkeypatch) -> None:
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    error, reason = CASES[name]
    wrapped = DatasetNotFoundError("of a library")
    wrapped.__cause__ = OSError("in between")
    wrapped.__cause__.__context__ = error
    for each in (error, wrapped):
        assert reason in hub.reason_of(each)
        with (
            pytest.raises(UserError, match=r"hub:a/b: cannot be opened: the hub.* \(remedy\)"),
            hub.opening("hub:a/b", "remedy"),
        ):
            raise each


def test_what_is_no_error_of_the_hub_stays(monkeypatch) -> None:
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    with pytest.raises(KeyError), hub.opening("hub:a/b", "remedy"):
        raise KeyError("a mistake of this package")
    with pytest.raises(UserError, match="cannot be opened: no such split"), hub.opening("hub:a/b", "remedy"):
        raise ValueError("no such split")


@pytest.mark.parametrize("reachable", [True, False])
def test_without_a_network_the_clients_ask_for_nothing(reachable: bool, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "is_reachable", lambda: reachable)
    with hub.offline_if_unreachable():
        assert constants.HF_HUB_OFFLINE is not reachable
    assert constants.HF_HUB_OFFLINE is False
