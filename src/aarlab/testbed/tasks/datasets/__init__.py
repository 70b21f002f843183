"""Data from elsewhere: declarative mappings, near-duplicates, data cards."""
