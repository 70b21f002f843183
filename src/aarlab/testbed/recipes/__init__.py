"""Recipes: the declared grammar of methods, and what its stages do."""
