"""The user's step as a pure function: what it reaches, what it declares, what a recomputation puts back, refusals."""
