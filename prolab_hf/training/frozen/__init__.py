"""Training less than everything: frozen stages, low-rank adapters, cached features of a frozen backbone."""
