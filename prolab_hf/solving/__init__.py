"""The property head in closed form: statistics of features, their solution, and what described classes may claim."""
