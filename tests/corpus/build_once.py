"""Run by tests in a process of its own: build_once.py WORKERS OUT SOURCE...; prints the peak memory in KiB."""

import resource
import sys

from corpus_inputs import build_tokenizer

from compact_biomed.corpus import prepare

if __name__ == "__main__":
    workers, out, *sources = sys.argv[1:]
    prepare(sources, build_tokenizer(), workers=int(workers), out=out)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
