"""From sources to documents to a tokenized set: readers, merging of updates, the held-out split, tokens."""
