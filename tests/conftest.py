"""What holds for every test: no hub, and a cache folder of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read when huggingface_hub is first imported, hence here and not in a fixture.
os.environ["HF_HUB_OFFLINE"] = "1"
# Read when torch is first imported. Threads that wait without spinning: on a busy machine
# spinning costs most of what these small models take. Results are the same.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, session_cache: Path) -> None:
    """Keep tests out of the user's cache.

    Tests marked `network` use the real one, so that what they fetch is fetched once
    and not in every run of the suite.
    """
    if request.node.get_closest_marker("network") is None:
        monkeypatch.setenv("COMPACT_BIOMED_CACHE", str(session_cache))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So that one replica sums in the same order as each of several."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
