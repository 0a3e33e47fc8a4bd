"""The bench of fine-tuning: all ways learn the same, and the record says what was measured."""

import json
from functools import partial

import pytest
import torch
from small_runs import make_checkpoint, make_ner_set

from compact_biomed.bench import finetune
from compact_biomed.bench.finetune import summarize_turns
from compact_biomed.bench.finetune_peers import _grouped_epoch
from compact_biomed.benchmarks import tasks
from compact_biomed.cli import main
from compact_biomed.evaluation.learner import epoch
from compact_biomed.records.lines import read_lines


@pytest.fixture
def task(tmp_path, monkeypatch):
    folder = make_ner_set(tmp_path / "NCBI-disease", n=40)
    task = tasks.ner_task_from_folder(folder)
    monkeypatch.setattr(tasks, "task_named", lambda name: task)
    return task


def test_without_dropout_all_ways_give_the_same_answers(task, tmp_path, monkeypatch, capsys):
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    checkpoint = make_checkpoint(tmp_path / "checkpoint", max_position_embeddings=512, **rates)
    fp32 = finetune.PerformanceSettings(precision="fp32", replicas=2)
    monkeypatch.setattr(finetune, "PerformanceSettings", lambda: fp32)
    monkeypatch.setattr(finetune, "tuned_training", partial(finetune.tuned_training, grouped=False))
    answers = {"plain": [], "tuned": [], "ours": []}

    def recorded(side, logits_of):
        def record(*arguments):
            answers[side].append(logits_of(*arguments))
            return answers[side][-1]

        return record

    monkeypatch.setattr(finetune, "plain_logits", recorded("plain", finetune.plain_logits))
    monkeypatch.setattr(finetune, "tuned_logits", recorded("tuned", finetune.tuned_logits))
    monkeypatch.setattr(finetune.Learner, "logits", recorded("ours", finetune.Learner.logits))
    records = tmp_path / "records.jsonl"
    flags = ["--model", str(checkpoint), "--epochs", "2", "--learning-rate", "1e-2", "--seeds", "1,2"]
    flags += ["--records", str(records), "--json"]
    assert main(["bench", "finetune", *flags]) == 0
    assert {side: len(each) for side, each in answers.items()} == dict.fromkeys(answers, 3)  # warm-up, two seeds
    for plain, *others in zip(*(each[1:] for each in answers.values()), strict=True):
        for other in others:
            for a, b in zip(plain, other, strict=True):
                torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=2e-3, atol=2e-3)
    (line,) = read_lines([records])
    record = line.record
    assert record["examples"] == 40 and record["settings"]["epochs"] == 2 and len(record["turns"]) == 2
    assert record["score_difference"] == 0 and record["score_difference_interval"] is None
    assert record["score_difference_to_tuned"] == 0 and record["ratio_to_tuned"] > 0
    assert record["tuned"]["attention"] == "sdpa"
    output = capsys.readouterr()
    assert json.loads(output.out) == record and "times as fast as tuned transformers" in output.err


def test_tuned_batches_group_sentences_of_similar_length() -> None:
    features = [{"input_ids": [0] * (3 + 37 * i % 50)} for i in range(200)]
    batches = list(_grouped_epoch(features, 8, seed=1, number=0))
    assert sorted(i for batch in batches for i in batch) == list(range(200)) and len(batches) == 25
    padding = sum(max(lengths) * len(lengths) - sum(lengths) for lengths in _lengths(features, batches))
    random = sum(
        max(lengths) * len(lengths) - sum(lengths) for lengths in _lengths(features, epoch(200, 8, seed=1, number=0))
    )
    assert padding < random / 4
    assert batches == list(_grouped_epoch(features, 8, seed=1, number=0))
    assert batches != list(_grouped_epoch(features, 8, seed=1, number=1))


def _lengths(features, batches):
    return [[len(features[i]["input_ids"]) for i in batch] for batch in batches]


def test_the_summary_counts_differences_within_seeds():
    same = {"tokens": 100, "seconds": 1, "answer_seconds": 1, "answer_seconds_plain": 2, "score_plain": 80}
    same |= {"seconds_tuned": 1.5, "answer_seconds_tuned": 1.2, "score_tuned": 81}
    turns = [{**same, "seconds_plain": plain, "score": score} for plain, score in ((2, 81), (4, 80), (3, 79))]
    summary = summarize_turns(turns)
    assert summary["ratio"] == 3 and summary["ratio_of_answers"] == 2
    assert summary["ratio_to_tuned"] == 1.5 and summary["ratio_of_answers_to_tuned"] == 1.2
    assert summary["tokens_per_s"] == 100 and summary["score_difference"] == 0
    assert summary["score_difference_to_tuned"] == -1
    low, high = summary["score_difference_interval"]
    assert low == pytest.approx(-4.303 / 3**0.5, rel=1e-3) and high == -low  # t(2) at 97.5 % is 4.303
