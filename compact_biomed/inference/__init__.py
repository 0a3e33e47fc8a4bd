"""Use a fine-tuned model: text in; entities, classes or answers out, for documents of any length in constant memory."""
