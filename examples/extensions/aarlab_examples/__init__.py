"""One extension of aarlab of each kind."""
