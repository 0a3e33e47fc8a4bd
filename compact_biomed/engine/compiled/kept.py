"""Where compiled code is kept between processes, and what is done when it cannot be."""

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

FAILED = "a compiled loop failed in a thread"  # says `parallel`


@cache
def folder() -> Path:
    """Where compiled code is kept; made when there is none yet, and the person told.

    There is one for this package and all that compiled code depends on: numba looks at the place of a function's file
    and the time it was written, but not at the files whose functions it calls. Code of the package's older versions
    goes, but for that of another Python or numba, which may be in use in turns with these. Where nothing can be
    written, the folder is for this process alone.
    """
    import numba

    package = Path(__file__).parent
    sources = {path.name: [path.stat().st_mtime_ns, path.read_text("utf-8")] for path in package.glob("*.py")}
    of_all_versions = cache_folder() / "loops" / sha256_json([str(package), numba.__version__, sys.version])[:16]
    found = of_all_versions / sha256_json(sources)[:16]
    new = not found.is_dir()
    if new:
        shutil.rmtree(of_all_versions, ignore_errors=True)
    try:
        require_writable(found)
    except OSError as error:
        say(f"  nothing can be kept in {found} ({error.strerror}): compiling the loops of the training for this")
        say("  process alone, some 20 seconds in all, as they are needed; COMPACT_BIOMED_CACHE names another folder")
        found = Path(tempfile.mkdtemp(prefix="compact-biomed-loops-"))
        atexit.register(shutil.rmtree, found, ignore_errors=True)
        return found
    if new:
        say("  compiling the loops of the training for this machine, once: some 20 seconds in all, as they are needed")
    return found


def call(function: Callable, arguments: tuple) -> Any:
    """function(*arguments), a function of numba's, which finds its code in `folder()`, or compiles it and keeps it.

    If what is kept is damaged, or nothing can be kept (a full disk), the function is compiled for this process alone.
    """
    try:
        return function(*arguments)
    except Exception as error:
        from numba.core.errors import NumbaError

        # Errors of the function itself, and not of what is kept of it.
        if isinstance(error, MemoryError | NumbaError) or (isinstance(error, RuntimeError) and FAILED in str(error)):
            raise
        # Files that end too early, hold other bytes, cannot be read or written: unpickling has no end of error classes.
        # All of them come before the code runs; nothing has been written to the arguments.
        why = f"{type(error).__name__}: {error}"
        say(f"  {folder()}: compiled code can be neither read nor kept ({why}); compiling it again")
        shutil.rmtree(folder(), ignore_errors=True)
        function._cache.disable()  # of numba, which has no public name for it
        return function(*arguments)
