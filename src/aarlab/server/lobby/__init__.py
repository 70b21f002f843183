"""Many campaigns below one folder: which there are, new ones, and the way to the pages of each."""
