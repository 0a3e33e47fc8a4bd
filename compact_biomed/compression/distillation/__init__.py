"""Task distillation: from a fine-tuned teacher, labeled examples and unlabeled text to a small model for that task."""

REST = "task"  # a value of --unlabeled: the examples of the task that --max-train-examples leaves out
TEMPERATURE = 2.0
LAYER_MAP = "spaced"
TRANSFERS = ("hidden", "attention", "relations", "none")
RELATION_HEADS = 48  # as many as fit both models, but no more: MiniLMv2's number for a teacher of width 768
RELATION_LAYER = "last"
RECORDS = "runs/task_distillation.jsonl"
