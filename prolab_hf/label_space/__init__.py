"""Words in, property space out: descriptions, sentence vectors, clusters. Knows no image model."""
