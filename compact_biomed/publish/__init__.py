"""Publish a folder of a model: on a hub, or in a folder that others read."""
