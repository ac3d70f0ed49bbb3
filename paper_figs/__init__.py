"""The figures, regenerated from tables, streams and committed measurements: ``python -m paper_figs.make``."""
