"""What is behind a score: per type and class, errors, calibration, thresholds."""
