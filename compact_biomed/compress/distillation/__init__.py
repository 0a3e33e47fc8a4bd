"""Task distillation: a fine-tuned teacher, labelled examples and unlabelled text -> a small model for that task."""

REST = "task"  # for --unlabelled: the task's own examples that --max_train_examples leaves
TEMPERATURE = 2.0
LAYER_MAP = "spaced"
