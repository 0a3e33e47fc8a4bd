"""The workspace of runs: where they read and write, what they report to, and their performance settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compact_biomed.errors import UsageError
from compact_biomed.machine import PerformanceSettings
from compact_biomed.models.cards import check_license
from compact_biomed.parameters import as_list
from compact_biomed.training.arguments import check_trackers


@dataclass(frozen=True)
class Workspace:
    """The files that runs read and write, the trackers that they report to, and their performance settings.

    It can be pickled, so that each of several processes opens the same files.

    Args:
        records: file of the records of finished runs.
        data: folder of the benchmarks' files; None = see `benchmarks.tasks.find`.
        save: folder for the fine-tuned models; None = do not save them.
        speed: performance settings.
        trackers: names of experiment trackers to report to, see `evaluation.tracking`.
        license: of the saved weights, for their cards; None = none is stated.
    """

    records: Path
    data: Path | None = None
    save: Path | None = None
    speed: PerformanceSettings = field(default_factory=PerformanceSettings)
    trackers: Sequence[str] = ()
    license: str | None = None

    @classmethod
    def of(
        cls,
        records: str | Path,
        *,
        data: str | Path | None,
        save: str | Path | None,
        report_to: str | Sequence[str],
        license: str | None,
        speed: PerformanceSettings,
    ) -> "Workspace":
        """Return the workspace that arguments of `finetune` describe: paths may be text, and `report_to` one name."""
        data, save = (None if folder is None else Path(folder) for folder in (data, save))
        return cls(Path(records), data, save, speed, as_list(report_to), license)

    def check(self) -> None:
        """Check what needs no file.

        Raises:
            UsageError: an invalid license, one without a saved model, or a tracker that does not exist.
            UserError: a tracker that is not installed.
        """
        if self.license is not None:
            check_license(self.license)
            if self.save is None:
                raise UsageError("no model is saved, so there is no card", where="--license", remedy="add --save DIR")
        check_trackers(self.trackers)
