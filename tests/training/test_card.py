"""What the model card says about test sets."""

from typing import Any

from compact_biomed.training.summary import model_card


def record(corpus: dict[str, Any]) -> dict[str, Any]:
    row = {"loss": 2.0, "accuracy": 0.5, "documents": 10}
    return {
        "hyperparameters": {"model": "m", "preset": "mini", "sources": ["registry"], "decontaminate_against": None},
        "heldout": {"unigram": row, "before": row, "after": row},
        "corpus": {"train": {"documents": 100}, **corpus},
        "from": {"command": "c", "versions": {"compact-biomed": "0"}},
        "tokens": 5,
        "start_sha256": {},
    }


def test_the_card_counts_what_was_left_out_by_benchmark() -> None:
    found = {"documents": 1234, "n_words": 13, "shortest_text": 8}
    found["benchmarks"] = {"BC2GM": {"documents": 1200}, "GAD": {"documents": 50}}
    card = model_card(record({"decontamination": found}))
    assert "1,234 documents were left out because they share 13 words in a row" in card
    assert "BC2GM 1,200, GAD 50." in card
    assert "decontaminate_against" not in card


def test_the_card_of_an_encoder_shows_the_terms_of_its_loss() -> None:
    rows = {
        when: {"distillation_loss": loss, "terms": {"key_relation_kl_3_5": loss}, "documents": 10}
        for when, loss in (("before", 0.5), ("after", 0.25))
    }
    card = model_card(record({}) | {"heldout": rows})
    assert "| key_relation_kl_3_5 | 0.5000 | 0.2500 |" in card and "did not involve a vocabulary head" in card
    assert "pipeline_tag: feature-extraction\ntags:\n- biomedical\n- pubmed\n---" in card
    assert "pipeline_tag: fill-mask\ntags:\n- biomedical\n- pubmed\n- masked-lm\n---" in model_card(record({}))


def test_a_card_says_so_where_nothing_was_compared() -> None:
    assert "not compared with any benchmark's test set" in model_card(record({}))
