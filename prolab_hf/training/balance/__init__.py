"""Rare classes: how often each class occurs, what its pixels weigh, where crops are laid."""
