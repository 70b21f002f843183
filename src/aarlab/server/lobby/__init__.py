"""Many campaigns in one folder: a list of them, new ones, and the way to the pages of each."""
