"""The words that the rules for phrases know, by what they are for."""
