"""Predictions -> scores, by the metrics shipped in `evaluation/metrics`, and per-example units."""
