"""What the stages of a recipe do. Legend: N rows, A answers per row, D width of a state, K
margins."""
