"""Worker processes start fast: they import neither heavy libraries nor the main script."""

import subprocess
import sys
from pathlib import Path

HEAVY = {"torch", "transformers", "datasets", "huggingface_hub", "requests", "sklearn"}


def test_modules_of_worker_tasks_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import compact_biomed.corpus.decontaminate, compact_biomed.corpus.shards, compact_biomed.corpus.tokenize\n"
        f"print({HEAVY} & set(sys.modules))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "set()\n"


def test_workers_do_not_import_the_main_script(tmp_path: Path) -> None:
    script = tmp_path / "recipe.py"
    script.write_text(
        "import sys\n"
        "print('imported', __name__, flush=True)\n"
        "from compact_biomed.workers import run_all\n"
        "if __name__ == '__main__':\n"
        "    main = sys.modules['__main__']\n"
        "    print(sorted(run_all(abs, [-3, -2, -1], 2)))\n"
        "    assert sys.modules['__main__'] is main\n"
    )
    process = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert process.stdout == "imported __main__\n[(-3, 3), (-2, 2), (-1, 1)]\n"
