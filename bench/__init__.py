"""Measurements, and nothing else: each is resumed, named and stored in one way; figures only read them."""
