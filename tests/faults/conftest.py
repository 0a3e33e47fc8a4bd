"""Fixtures of the tables of faults."""

import pytest
from faults import Commands


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capsys)
