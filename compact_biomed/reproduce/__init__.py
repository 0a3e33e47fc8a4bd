"""The whole reproduction: declare models and benchmarks, plan the steps, run them in slices, write the tables."""
