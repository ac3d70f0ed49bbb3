"""The public calls, a page each."""
