"""Architectures of the paper, their start weights, and encoders written for training speed."""
