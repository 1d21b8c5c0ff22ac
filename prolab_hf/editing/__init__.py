"""Editing the words of a model while its answers are looked at."""
