"""Task distillation: a fine-tuned teacher, labelled examples and unlabelled text -> a small model for that task."""
