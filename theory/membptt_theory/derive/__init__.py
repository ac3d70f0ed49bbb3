"""Derivations: the paper's statements and this project's, each with steps that sympy can refuse."""
