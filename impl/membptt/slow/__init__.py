"""The slow tier."""
