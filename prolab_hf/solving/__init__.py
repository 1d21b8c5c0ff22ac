"""The property head in closed form: statistics, solution, adapting other networks."""
