"""The hub of models and data sets: whether it answers, and in a few words why a request to it failed.

Whether it can be reached is asked once and at once: the hub's own clients retry for half a minute, which is too long
for a name that was mistyped.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import get_session

from compact_biomed.errors import UserError

UNREACHABLE = "the hub cannot be reached"
_SECONDS = 5  # for the hub's first answer
# Packages of HTTP: which of them the hub's clients use depends on their versions.
_TRANSPORTS = ("httpx", "httpcore", "requests", "urllib3", "aiohttp")


@cache
def is_reachable() -> bool:
    """Return whether the hub answers a single request, through the proxies and to the address of the hub's client."""
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception:  # the client's, the transport's, or that it is set to offline
        return False
    return True


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Let the hub's clients use only what they have downloaded before, within the block, if the hub does not answer."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not is_reachable()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def opening(where: object, remedy: str) -> Iterator[None]:
    """Turn what goes wrong while a data set of the hub is opened into a `UserError`.

    Without a network, only what was downloaded before is used.

    Args:
        where: the data set as the user named it.
        remedy: what else the user can do.
    """
    try:
        with offline_if_unreachable():
            yield
    except UserError:
        raise
    except Exception as error:  # hub clients have several error classes
        reason = reason_of(error)
        if reason is None and not isinstance(error, ValueError | RuntimeError | OSError):
            raise
        raise UserError(f"cannot be opened: {reason or error}", where=where, remedy=remedy) from error


def reason_of(error: BaseException) -> str | None:
    """Return in a few words why a request to the hub failed; None if the error is none of the hub or the network.

    Args:
        error: of a client of the hub, or of a library that calls one: what it was raised from counts too.
    """
    errors = [*_chain(error)]
    statuses = (getattr(getattr(each, "response", None), "status_code", None) for each in errors)
    status = next((each for each in statuses if isinstance(each, int)), None)
    if status in (401, 403):
        return f"the hub gives no access ({status}): there is no such name, or it is private or gated (hf auth login)"
    if status == 404:
        return "the hub has nothing of this name (404)"
    if status is not None:
        return f"the hub answers with an error ({status}): try again later"
    if any(isinstance(each, OfflineModeIsEnabled) for each in errors):
        return "the hub's client is set to offline (HF_HUB_OFFLINE)"
    if any(_is_of_network(each) for each in errors):
        return UNREACHABLE
    return None


def _is_of_network(error: BaseException) -> bool:
    package = type(error).__module__.partition(".")[0]
    return package.startswith(_TRANSPORTS) or isinstance(
        error, ConnectionError | TimeoutError | LocalEntryNotFoundError
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
