"""Benchmarks, without any training: tasks, readers of their files, metrics, and the texts of test sets."""

OWN_KINDS = ("ner", "classification", "multilabel", "pairs", "regression", "qa", "relation")  # of a user's own task
