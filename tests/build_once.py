"""Build a corpus in a separate process: build_once.py WORKERS OUT SOURCE...; print the peak memory in KiB."""

import signal
import sys

from corpus_inputs import build_tokenizer

from compact_biomed.corpus.build import prepare
from compact_biomed.machine import own_peak_memory

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells switch it off in the background
    workers, out, *sources = sys.argv[1:]
    prepare(sources, build_tokenizer(), workers=int(workers), out=out)
    print(own_peak_memory() // 1024)
