"""The groups of a training recipe: every number with its meaning, its default and its bounds."""
