"""Fixtures of the evaluation tests."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluation_inputs import build_tokenizer


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


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the real sets."""
    named = os.environ.get("COMPACT_BIOMED_DATA")
    if not named:
        pytest.skip("COMPACT_BIOMED_DATA does not name a folder with the real sets")
    return Path(named)
