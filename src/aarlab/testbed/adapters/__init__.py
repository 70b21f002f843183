"""Students that train the strong model itself. Loads torch."""
