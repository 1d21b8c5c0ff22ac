"""Inference on whole pictures, and the figures that judge it."""
