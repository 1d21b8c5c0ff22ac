"""A property space for the eye: figures, page, card."""
