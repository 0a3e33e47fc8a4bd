"""Embeddings are means over tokens, and an encoder is scored on all pairs with nothing trained."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import make_checkpoint, make_ner_set
from transformers import AutoModel

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.readers import read
from compact_biomed.errors import UsageError
from compact_biomed.evaluation.api import finetune
from compact_biomed.evaluation.finetune import Assignment
from compact_biomed.evaluation.zero_shot import score_encoder
from compact_biomed.machine import PerformanceSettings
from compact_biomed.models.checkpoints import load_tokenizer

BIOSSES = tasks.zero_shot(tasks.TASKS["BIOSSES"])
WORDS = ("the", "mild", "fever", "of", "old", "frogs")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("checkpoint"), max_position_embeddings=64))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = ["index\tsentence1\tsentence2\tscore\tA\tB\tC\tD\tE"]
    for i in range(1, 21):
        first, second = (" ".join(WORDS[j % 6] for j in range(i, i + n)) for n in (3, 4 + i % 5))
        rows.append(f"{i}\t{first}\t{second}\t{i % 5}\t0\t0\t0\t0\t0")
    (folder / "STS" / "BIOSSES").mkdir(parents=True)
    (folder / "STS" / "BIOSSES" / "biosses.tsv").write_text("\n".join(rows) + "\n")
    return folder


def test_predictions_are_cosines_of_means_over_the_tokens_of_each_text_alone(checkpoint: str, data: Path) -> None:
    pairs = read(BIOSSES, tasks.find(BIOSSES, data)).test
    work = Assignment(checkpoint, BIOSSES, ["cosine"], "standard", [], pairs)
    outcome = score_encoder(work, max_length=9, speed=PerformanceSettings())
    model, tokenizer = AutoModel.from_pretrained(checkpoint).eval(), load_tokenizer(checkpoint)

    def embedding(text: str) -> torch.Tensor:
        ids = tokenizer(text, truncation=True, max_length=9, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            return model(input_ids=ids).last_hidden_state[0].double().mean(0)

    expected = [torch.cosine_similarity(embedding(e.text), embedding(e.pair), dim=0).item() for e in pairs]
    np.testing.assert_allclose(outcome.predictions, expected, rtol=0, atol=1e-6)
    wanted = 100 * np.corrcoef(expected, [e.label for e in pairs])[0, 1]
    assert outcome.scores.metrics["pearson"] == pytest.approx(wanted, abs=1e-3)
    assert outcome.random_weights == [] and outcome.fitted.steps == 0


def test_every_pair_is_scored_once_whatever_the_seeds(checkpoint: str, data: Path, tmp_path: Path) -> None:
    options = {"name": "M", "data": data, "records": tmp_path / "r.jsonl", "protocol": "zero-shot"}
    result = finetune(checkpoint, "BIOSSES", seeds=[1, 2, 3], **options)
    (record,) = result.records
    assert record["task"]["name"] == "BIOSSES (zero-shot)" and record["task"]["examples"]["test"] == 20
    assert record["protocol"]["name"] == "zero-shot" and record["seed"] == 0 and result.remaining == []
    finetune(checkpoint, "BIOSSES", **options)
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 1
    # The task by its own name is the same run, next to others that are fine-tuned.
    folder = make_ner_set(tmp_path / "fevers")
    options |= {"protocol": "standard", "learning_rate": 1e-3, "epochs": 1, "ner_dirs": folder}
    both = finetune(checkpoint, "BIOSSES (zero-shot)", seeds=[1, 2], **options)
    assert [r["run"] for r in both.records].count(record["run"]) == 1 and len(both.records) == 3
    assert len(json.loads((tmp_path / "r.jsonl").read_text().splitlines()[0])["metrics"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": "GAD"}, "GAD cannot be scored without training"),
        ({"tasks": "BIOSSES", "epochs": 2}, "epochs without training"),
        ({"tasks": "BIOSSES", "folds": [1]}, "none of the tasks has folds"),
        ({"tasks": "BIOSSES", "save": "models"}, "no model is trained for BIOSSES"),
    ],
)
def test_what_needs_training_is_refused(tmp_path: Path, monkeypatch, arguments: dict, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        finetune("m", protocol="zero-shot", records=tmp_path / "r.jsonl", **arguments)
    assert not list(tmp_path.iterdir())
