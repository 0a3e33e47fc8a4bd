"""Text and a fine-tuned model in, entities, classes and answers out; documents of any length in constant memory."""
