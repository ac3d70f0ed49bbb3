"""What a schedule stores: leaves, hidden and internal states, the store."""
