"""The cache of compiled code: where it is kept between processes, and what happens if it cannot be kept."""

import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from compact_biomed.console import say
from compact_biomed.files import cache_folder, require_writable, sha256_json

FAILED_IN_THREAD = "a compiled loop failed in a thread"  # the message of `parallel.in_threads`


@cache
def folder() -> Path:
    """Return the folder of compiled code; create it, and say so, if there is none yet.

    The folder is named after this package's sources and everything that compiled code depends on: numba compares the
    path and time of a function's file, but not the files whose functions it calls. Code of older versions of the
    package is deleted, except that of another Python or numba, which may be in use alternately. If nothing can be
    written, the folder is temporary and for this process alone.
    """
    import numba

    package = Path(__file__).parent
    sources = {path.name: [path.stat().st_mtime_ns, path.read_text("utf-8")] for path in package.glob("*.py")}
    of_all_versions = cache_folder() / "loops" / sha256_json([str(package), numba.__version__, sys.version])[:16]
    of_this_version = of_all_versions / sha256_json(sources)[:16]
    new = not of_this_version.is_dir()
    if new:
        shutil.rmtree(of_all_versions, ignore_errors=True)
    try:
        require_writable(of_this_version)
    except OSError as error:
        say(f"  {of_this_version} is not writable ({error.strerror}): compiling the training loops for this process")
        say("  only (about 20 seconds, as they are needed); set COMPACT_BIOMED_CACHE to a writable folder")
        temporary = Path(tempfile.mkdtemp(prefix="compact-biomed-loops-"))
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        return temporary
    if new:
        say("  compiling the training loops for this machine (first run only, about 20 seconds, as they are needed)")
    return of_this_version


def call(function: Callable, arguments: tuple) -> Any:
    """Return function(*arguments) of a numba function, which reads its code from `folder()` or compiles and keeps it.

    If the kept code is damaged, or nothing can be kept (a full disk), the function is compiled for this process only.
    """
    try:
        return function(*arguments)
    except Exception as error:
        from numba.core.errors import NumbaError

        # Errors of the function itself, not of its kept code.
        of_thread = isinstance(error, RuntimeError) and FAILED_IN_THREAD in str(error)
        if isinstance(error, MemoryError | NumbaError) or of_thread:
            raise
        # Truncated, overwritten, unreadable or unwritable files: unpickling raises errors of any class. All of them
        # come before the code runs, so nothing has been written to the arguments.
        why = f"{type(error).__name__}: {error}"
        say(f"  compiled code in {folder()} can be neither read nor kept ({why}); compiling it again")
        shutil.rmtree(folder(), ignore_errors=True)
        function._cache.disable()  # numba has no public name for it
        return function(*arguments)
