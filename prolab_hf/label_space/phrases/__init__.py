"""Phrases taken apart: the word lists, and who says what of which noun."""
