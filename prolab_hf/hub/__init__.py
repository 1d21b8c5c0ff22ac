"""Model cards, pushing to the Hub, and import of original checkpoints."""
