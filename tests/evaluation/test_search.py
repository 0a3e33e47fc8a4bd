"""Hyperparameters are chosen by scores on dev, each computed once."""

import pytest

from compact_biomed.benchmarks import tasks
from compact_biomed.errors import UserError
from compact_biomed.evaluation import protocols, search
from compact_biomed.evaluation.finetune import Assignment
from compact_biomed.evaluation.learner import Diverged
from compact_biomed.machine import PerformanceSettings

FP32 = PerformanceSettings(precision="fp32", replicas=1)
WORK = Assignment("checkpoint", tasks.TASKS["NCBI-disease"], (), "standard", (), ())
PROTOCOL = protocols.protocol("standard", WORK.task, 5000, protocols.NO_OVERRIDES)


def _searched(monkeypatch, by_rate: dict, known: dict | None = None):
    trained, recorded = [], {}

    def fake(work, settings, *, seed, speed, each_epoch, patience, monitor):
        assert seed == protocols.SEARCH_SEED and each_epoch and patience is None
        trained.append(settings.learning_rate)
        if by_rate[settings.learning_rate] is None:
            raise Diverged("diverged")
        return type("Outcome", (), {"by_epoch": by_rate[settings.learning_rate]})

    monkeypatch.setattr(search, "fine_tune", fake)

    def scores_of(candidate: protocols.Candidate) -> list[float]:
        rate = candidate.learning_rate
        if known and rate in known:
            return known[rate]
        recorded[rate] = search.dev_scores(WORK, PROTOCOL, candidate, speed=FP32, monitor=None)
        return recorded[rate]

    result = search.choose(WORK, PROTOCOL, scores_of)
    return *result, trained, recorded


def test_the_search_takes_the_best_epoch_of_the_best_rate(monkeypatch) -> None:
    scores = {5e-5: [10.0, 20.0], 1e-4: [30.0, 50.0, 40.0], 3e-4: None}
    chosen, tried, trained, recorded = _searched(monkeypatch, scores)
    assert (chosen.learning_rate, chosen.stop_after, chosen.epochs) == (1e-4, 2, 5)
    assert trained == [5e-5, 1e-4, 3e-4]
    assert recorded == {5e-5: [10.0, 20.0], 1e-4: [30.0, 50.0, 40.0], 3e-4: []}
    assert [each["dev"] for each in tried] == list(recorded.values())


def test_of_equal_scores_the_cheaper_wins_and_known_ones_are_not_repeated(monkeypatch) -> None:
    scores = {5e-5: [1.0, 2.0, 50.0], 1e-4: [1.0, 50.0, 50.0], 3e-4: [2.0, 50.0]}
    chosen, _, trained, _ = _searched(monkeypatch, scores, {1e-4: [1.0, 50.0, 50.0]})
    assert (chosen.learning_rate, chosen.stop_after) == (1e-4, 2)
    assert trained == [5e-5, 3e-4]


def test_a_search_that_diverges_everywhere_says_so(monkeypatch) -> None:
    with pytest.raises(UserError, match="diverged at every learning rate"):
        _searched(monkeypatch, {5e-5: None, 1e-4: None, 3e-4: None})
