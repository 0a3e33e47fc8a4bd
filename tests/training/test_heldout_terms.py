"""What held-out text tells of a student whose loss reads no logits: the terms of its loss."""

import datasets
import numpy as np
import pytest
import torch
from small_models import VOCABULARY, random_batch, small_model

from compact_biomed.objectives import evaluate
from compact_biomed.objectives.distillation import Distillation
from compact_biomed.objectives.mlm import Masking
from compact_biomed.objectives.terms import relation_terms
from compact_biomed.training import heldout
from compact_biomed.training.heldout import HeldoutTest

LENGTHS = [20, 13, 3, 7, 18]
TERMS = relation_terms(2.0, 2, 1, heads=8)


@pytest.fixture
def objective(one_thread: None) -> Distillation:
    student = small_model("distilbert", attention_dropout=0.4, dropout=0.2)
    teacher = small_model("bert", hidden_size=40, intermediate_size=30)
    return Distillation(student, teacher, TERMS, dtype=torch.float64).double().train()


def test_the_terms_are_means_over_all_documents(objective: Distillation, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are divided, without dropout, and though no word is masked."""
    ids, mask, _ = random_batch(LENGTHS, max(LENGTHS))
    rows = [row[:n].numpy().astype(np.uint16) for row, n in zip(ids, LENGTHS, strict=True)]
    documents = datasets.Dataset.from_dict({"input_ids": rows, "key": np.arange(len(rows), dtype=np.uint64)})
    masking = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=VOCABULARY, probability=0.0)
    unigram = np.ones(VOCABULARY, np.int64)
    measured = []
    for at_once in (4096, 16):
        monkeypatch.setattr(heldout, "_TOKENS_AT_ONCE", at_once)
        measured.append(HeldoutTest(documents, masking, 0, unigram, pseudo_positions=4).measure(objective))
    assert measured[0] == {**measured[1], "terms": pytest.approx(measured[1]["terms"], rel=1e-9)} | {
        "distillation_loss": pytest.approx(measured[1]["distillation_loss"], rel=1e-9)
    }
    assert objective.training and measured[0]["documents"] == len(LENGTHS)
    assert measured[0].keys() == {"distillation_loss", "terms", "documents"}
    objective.eval()
    counts = objective.counts({"attention_mask": mask, "labels": torch.full_like(ids, -100)})
    assert counts.tolist() == [8 * sum(LENGTHS)] * 3
    with torch.no_grad():
        values = objective.values(ids, mask, torch.full_like(ids, -100))
    means = {name: float(value) / (8 * sum(LENGTHS)) for name, value in values.items()}
    assert measured[0]["terms"] == pytest.approx(means, rel=1e-9)
    expected = evaluate.total(TERMS, {name: torch.tensor(mean) for name, mean in means.items()})
    assert measured[0]["distillation_loss"] == pytest.approx(float(expected), rel=1e-6)
