"""Runs recipes in processes of their own, without loading torch anew for each.

Reads a JSON object a line: {"script", "arguments", "cwd", "output", "signal"}; forks; answers
with the pid, and later the exit status, as JSON lines. A child is a real process: it can be
killed like any other.

"signal": {"at": "module:function", "call": n, "number": s, "after": bool} sends signal s to
the child itself when it calls that function for the nth time (before it runs, or after);
with "error": "ENOSPC" in place of a number, that call fails as on a full disk.
"""

import errno
import gc
import json
import os
import runpy
import signal
import sys
from importlib import import_module

# All that a run imports; no tensor is computed before the fork, because threads do not survive it.
import datasets  # noqa: F401
import matplotlib.backends.backend_agg  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import transformers.models.bert.modeling_bert
import transformers.models.distilbert.modeling_distilbert
import transformers.models.mobilebert.modeling_mobilebert  # noqa: F401
from transformers import AutoModelForMaskedLM, AutoTokenizer, Trainer  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

import compact_biomed.cli.recipe
import compact_biomed.training.interface
import compact_biomed.training.run  # noqa: F401
from compact_biomed.engine import compiled, plan


def send_signal(at: str, call: int, number: int = 0, after: bool = False, error: str | None = None) -> None:
    module, _, path = at.partition(":")
    owner, name = import_module(module), path
    while "." in name:
        first, _, name = name.partition(".")
        owner = getattr(owner, first)
    function, calls = getattr(owner, name), 0

    def wrapped(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == call and error is not None:
            raise OSError(getattr(errno, error), os.strerror(getattr(errno, error)))
        if calls == call and not after:
            os.kill(os.getpid(), number)
        result = function(*arguments, **keywords)
        if calls == call and after:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, wrapped)
    if function.__module__ == module:  # not one that it borrows; other modules may have taken it over by name
        for other in [each for key, each in sys.modules.items() if key.startswith("compact_biomed.")]:
            if vars(other).get(name) is function:
                setattr(other, name, wrapped)


def child(task: dict) -> int:
    # Ctrl-C as at a terminal, also where the suite was started in the background, which ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(task["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(task["cwd"])
    if task["signal"]:
        send_signal(**task["signal"])
    sys.argv = [task["script"], *task["arguments"]]
    try:
        sys.path.insert(0, os.path.dirname(task["script"]))  # as for any script; recipes import each other
        runpy.run_path(task["script"], run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    return 0


def main() -> None:
    get_checkpoint_conversion_mapping("bert")  # compiles a thousand patterns, which transformers then keeps
    if compiled.available():
        for name in ("adamw", "attention", "rowwise"):
            compiled.loops(name)
    # Half a second of both cores in each run, for a number that only its log shows; runs without this server measure.
    plan.matmul_ceiling = lambda *_, **__: 3e11
    gc.freeze()  # collections in children pass over what is imported
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = child(json.loads(line))
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(json.dumps(pid), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


if __name__ == "__main__":
    main()
