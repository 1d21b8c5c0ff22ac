"""Data that is read as a stream instead of by number."""
