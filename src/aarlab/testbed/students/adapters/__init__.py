"""Students that train the strong model itself. All modules but `adaptation` load torch."""
