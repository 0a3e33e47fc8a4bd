"""Text in, a tokenized set out: readers, merging of updates, the held-out split, tokens."""
