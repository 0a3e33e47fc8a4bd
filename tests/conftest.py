"""What holds for every test: no hub, and a cache folder of its own."""

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Read when huggingface_hub is first imported, hence here and not in a fixture.
os.environ["HF_HUB_OFFLINE"] = "1"
# Read when torch is first imported. Threads that wait without spinning: on a busy machine
# spinning costs most of what these small models take. Results are the same.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of one process of tests, in which all share the loops that are compiled."""
    folder, shared = tmp_path_factory.mktemp("cache"), tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    (shared / "loops").mkdir(exist_ok=True)
    (folder / "loops").symlink_to(shared / "loops")
    return folder


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


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """write(name, content): a file in the test's folder, gzipped if the name says so."""

    def write_file(name: str, content: bytes | str) -> Path:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        return path

    return write_file


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this test alone."""
    monkeypatch.setenv("COMPACT_BIOMED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the real sets."""
    named = os.environ.get("COMPACT_BIOMED_DATA")
    if not named:
        pytest.skip("COMPACT_BIOMED_DATA does not name a folder with the real sets")
    return Path(named)
