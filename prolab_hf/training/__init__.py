"""Recipes, optimization, checkpoints and the training loops."""
