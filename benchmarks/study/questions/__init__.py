"""Questions with a way of measuring of their own; the others are in `tables`."""
