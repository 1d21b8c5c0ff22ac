"""Which properties made a pixel what it is, and what would change the answer."""
