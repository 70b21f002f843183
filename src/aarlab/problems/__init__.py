"""Research problems: what is asked of a method and how its predictions become a figure."""
