"""A killed build resumes where it stopped, and memory does not grow with the corpus."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus_inputs import citation, made_up, medline

SCRIPT = Path(__file__).parents[1] / "build_once.py"


def command(workers: int, out: Path, *sources: Path) -> list[str]:
    return [sys.executable, str(SCRIPT), str(workers), str(out), *map(str, sources)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def wait_for(seen: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_builds_go_on_and_end_with_the_same_bytes(tmp_path: Path) -> None:
    sources = []
    for number in range(1, 9):
        path = tmp_path / f"pubmed25n{number:04}.xml"
        first = number * 1000
        path.write_bytes(medline(*(citation(n, "T", made_up(n)) for n in range(first, first + 700))))
        sources.append(path)

    def environment(name: str) -> dict[str, str]:
        return {**os.environ, "COMPACT_BIOMED_CACHE": str(tmp_path / name)}

    whole = tmp_path / "whole"
    subprocess.run(command(1, whole, *sources), env=environment("cache1"), check=True, capture_output=True)
    cache, out = tmp_path / "cache2" / "corpus", tmp_path / "out"
    # Once amid the reading, once amid the tokenizing; the whole group is not killed, so that
    # the workers must notice for themselves that their parent is gone.
    for part, pattern, number in (("documents", "*.parquet", 2), ("tokens", "*/*/counts.json", 2)):
        process = subprocess.Popen(command(2, out, *sources), env=environment("cache2"), stderr=subprocess.DEVNULL)
        wait_for(lambda p=part, g=pattern, n=number: len(list((cache / p).glob(g))) >= n, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists()
    subprocess.run(command(2, out, *sources), env=environment("cache2"), check=True, capture_output=True)
    assert content(out) == content(whole)


def test_ctrl_c_stops_all_processes_soon_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    sources = []
    # Half a minute of reading, so that the signal comes amid it however late this process is woken.
    citations = [citation(n, "T", made_up(n)) for n in range(2500)] * 20
    for number in range(1, 5):
        path = tmp_path / f"pubmed25n{number:04}.xml"
        path.write_bytes(medline(*citations, citation(number, "T", made_up(number))))
        sources.append(path)
    cache = tmp_path / "cache" / "corpus" / "documents"
    process = subprocess.Popen(
        command(2, tmp_path / "out", *sources),
        env={**os.environ, "COMPACT_BIOMED_CACHE": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: bool(list(cache.glob(".*.tmp"))), process)
    os.killpg(process.pid, signal.SIGINT)
    start = time.monotonic()
    _, message = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert "KeyboardInterrupt" in message and message.count("Traceback") == 1, message  # the workers say nothing
    assert process.returncode != 0
    assert not list(cache.glob(".*.tmp"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ProcessLookupError):  # the whole group is gone, workers included
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


@pytest.mark.slow
def test_ten_times_the_corpus_takes_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    texts = [made_up(number, 40) for number in range(500)]
    for times in (1, 10):
        path = tmp_path / f"{times}.jsonl"
        with open(path, "w") as out:
            for number in range(8192 * times):
                out.write(json.dumps({"pmid": number, "abstract": texts[number % 500]}) + "\n")
        done = subprocess.run(
            command(1, tmp_path / f"out{times}", path),
            env={**os.environ, "COMPACT_BIOMED_CACHE": str(tmp_path / "cache")},
            check=True,
            capture_output=True,
            text=True,
        )
        peaks.append(int(done.stdout) / 1024)
    # MiB. Two row groups are in memory in either case; what may differ is the allocator's slack.
    assert peaks[1] < peaks[0] + 40, peaks
