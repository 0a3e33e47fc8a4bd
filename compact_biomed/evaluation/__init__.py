"""Any encoder, fine-tuned and scored on the benchmarks: tasks, protocols, records."""
