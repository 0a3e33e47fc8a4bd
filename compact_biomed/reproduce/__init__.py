"""The whole reproduction: which models, made how, measured on what; planned, run in slices, put into tables."""
