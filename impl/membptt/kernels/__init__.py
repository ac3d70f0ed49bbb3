"""Compiled cores, merged products, captured graphs."""
