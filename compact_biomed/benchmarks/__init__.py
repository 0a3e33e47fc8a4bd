"""Benchmarks, without any training: tasks, readers of their files, metrics, and the texts of test sets."""
