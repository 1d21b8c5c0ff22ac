"""Judging a property space: findings, figures, comparison."""
