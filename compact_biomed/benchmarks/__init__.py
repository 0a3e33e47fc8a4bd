"""What a benchmark is, without any training: tasks, readers of their files, metrics, the texts of test sets."""
