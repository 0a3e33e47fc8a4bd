"""Steps of compression: distill a fine-tuned teacher into a small model, export it to int8, score and time it.

The models of a task are made in `runs/tasks/TASK` with records beside them, which are copied to the results at the end:
`evaluate --save` and `distill --save` skip what is recorded in the file that they are given, so on a machine
without the weights the records in the results cannot be that file.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.tasks import Task
from compact_biomed.corpus.documents import build_documents
from compact_biomed.corpus.smoke import smoke_corpus
from compact_biomed.evaluation.saved import saved_model_name
from compact_biomed.files import one_at_a_time, write_text
from compact_biomed.records.lines import read_lines
from compact_biomed.records.store import Records
from compact_biomed.report.compressed import DISTILLED_ENDING, INT8_ENDING
from compact_biomed.reproduce.declaration import DeclaredModel
from compact_biomed.reproduce.steps import (
    Evaluation,
    ReproductionPaths,
    Training,
    evaluation_lines,
    of_replicate,
    protocol_flags,
)
from compact_biomed.training.recipe import SMOKE, load_recipe

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")
_WORDS = range(5, 61)  # of a sentence that is kept
_COMMAND = (sys.executable, "-m", "compact_biomed")


@dataclass(frozen=True, eq=False)
class Compression:
    """A step that makes the int8 model of one size for one task.

    Args:
        name: of the task in the declaration.
        needs: the training of the student.
        teacher: the training of its teacher, which is fine-tuned on all labels first.
        unlabelled: number of sentences of the training text that only the teacher labels.
        protocol: of the student's fine-tuning, settings that replace the protocol's.
        teacher_protocol: of the teacher's.
    """

    model: DeclaredModel
    name: str
    task: Task
    seed: int
    needs: Training
    teacher: Training
    unlabelled: int
    protocol: Mapping[str, Any]
    teacher_protocol: Mapping[str, Any]
    paths: ReproductionPaths

    stage = "compression"

    def __str__(self) -> str:
        return f"compressing {self.model.name}{of_replicate(self.needs)} for {self.name}, seed {self.seed}"

    @property
    def requires(self) -> tuple[Training, ...]:
        return (self.teacher, self.needs)

    @property
    def folder(self) -> Path:
        return self.paths.runs / "tasks" / self.task.name

    @property
    def text(self) -> Path:
        """The file of unlabeled sentences."""
        return self.paths.runs / "tasks" / f"sentences-{self.unlabelled}.txt"

    def done(self) -> bool:
        """Return whether scores and speed of the int8 model are recorded, whichever machine made it."""
        name, weights = f"{self.model.name}{INT8_ENDING}", self.needs.known_weights()
        scored = any(
            line.model == name
            and (line.task, line.record["seed"]) == (self.task.name, self.seed)
            and line.record["model"]["weights_sha256"] in weights
            for line in evaluation_lines(self.paths.compression)
        )
        return scored and self._timed()

    def has_teacher(self) -> bool:
        """Return whether the fine-tuned teacher is on this machine."""
        return self._models()[0].is_dir()

    def fine_tuning(self, protocol: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation that does the same work as one of its fine-tunings, without text of its own."""
        return Evaluation(self.model, {self.name: self.task}, self.seed, None, protocol, self.paths, self.needs)

    def commands(self, *, minutes: Callable[[], float | None]) -> Iterator[list[str]]:
        """Yield the commands that make and score the int8 model, each after the one before it has ended.

        Args:
            minutes: returns the time that is left; None = there is no limit.
        """
        task = ["--ner-dir", self.task.place] if Path(self.task.place).is_absolute() else ["--task", self.name]
        records = ["--records", str(self.folder / "records.jsonl")]

        def limit() -> list[str]:
            return [] if (left := minutes()) is None else ["--minutes", f"{left:.2f}"]

        teacher, student = self._models()
        if not teacher.is_dir():
            named = ["--model", self.teacher.checkpoint, "--name", self.teacher.model.name]
            how = ["--seeds", str(self.seed), "--save", str(self.folder), *protocol_flags(self.teacher_protocol)]
            yield [*_COMMAND, "evaluate", *named, *task, *how, *records, *limit()]
            if not teacher.is_dir():  # the time was up
                return
        if not student.is_dir():
            self._write_text()
            named = ["--teacher", str(teacher), "--student", self.needs.checkpoint]
            named += ["--name", f"{self.model.name}{DISTILLED_ENDING}", "--unlabeled", str(self.text)]
            how = ["--seeds", str(self.seed), "--save", str(self.folder), *protocol_flags(self.protocol)]
            yield [*_COMMAND, "distill", *named, *task, *how, *records, *limit()]
            if not student.is_dir():
                return
        small = student.with_name(f"{student.name}-int8")
        if not small.is_dir():
            yield [*_COMMAND, "export", "--model", str(student), "--output", str(small), "--int8"]
        yield [*_COMMAND, "score", "--model", str(small), *(task if task[0] == "--ner-dir" else []), *records]

    def timings(self) -> Iterator[list[str]]:
        """Yield the commands that time the int8 model and its teacher, unless both are timed."""
        teacher, student = self._models()
        if self._timed() or not student.is_dir():  # not distilled, for lack of time
            return
        for name, folder, variant in (
            (self.teacher.model.name, teacher, "torch-fp32"),
            (self.model.name, student, "onnx-int8"),
        ):
            timed = ["--variants", variant, "--records", str(self.paths.speed)]
            yield [*_COMMAND, "bench", "inference", "--models", f"{name}={folder}", *timed]

    def keep(self) -> None:
        """Copy the records of the task's models to the results, with their counts."""
        file = self.folder / "records.jsonl"
        store = Records(self.paths.compression)
        for line in read_lines([file], missing_ok=True):
            record = {name: value for name, value in line.record.items() if name != "per_example_counts"}
            store.add(record, line.all_counts())

    def _timed(self) -> bool:
        lines = read_lines([self.paths.speed], missing_ok=True)
        timed = {(line.record["model"], line.record["variant"]) for line in lines}
        return {(self.model.name, "onnx-int8"), (self.teacher.model.name, "torch-fp32")} <= timed

    def _models(self) -> tuple[Path, Path]:
        """Return the folders of the fine-tuned teacher and of its student, which may not exist yet."""
        names = (self.teacher.model.name, f"{self.model.name}{DISTILLED_ENDING}")
        teacher, student = (self.folder / self._saved(name) for name in names)
        return teacher, student

    def _saved(self, name: str) -> str:
        return saved_model_name(name, self.task.name, None, self.seed)

    def _write_text(self) -> None:
        """Write the unlabeled sentences, which the seeds and tasks share, unless they are there."""
        with one_at_a_time(self.text.with_name(f".{self.text.name}.lock"), f"writing {self.text}"):
            if not self.text.is_file():
                write_text(self.text, "".join(f"{each}\n" for each in self._sentences()))

    def _sentences(self) -> Iterator[str]:
        """Yield the first sentences of the training text, one of a document after the other."""
        named = load_recipe(self.model.recipe).at(self.needs.scale)["sources"]
        sources = [str(smoke_corpus()) if source == SMOKE else source for source in named]
        sentences = (
            " ".join(sentence.split())
            for document in build_documents(sources).documents()
            for sentence in _SENTENCE_END.split(document.abstract or "")
        )
        return islice((each for each in sentences if len(each.split()) in _WORDS), self.unlabelled)
