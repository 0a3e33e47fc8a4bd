"""Task distillation: from a fine-tuned teacher, labeled examples and unlabeled text to a small model for that task."""

REST = "task"  # a value of --unlabelled: the examples of the task that --max_train_examples leaves out
TEMPERATURE = 2.0
LAYER_MAP = "spaced"
TRANSFERS = ("hidden", "attention", "none")
RECORDS = "runs/task_distillation.jsonl"
