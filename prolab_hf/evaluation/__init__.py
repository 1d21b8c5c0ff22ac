"""Inference on whole images, and the figures that judge it."""
