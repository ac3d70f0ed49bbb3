"""What the benchmark scripts share: cells, methods, meters, and the data they write."""
