"""From a budget in bytes to a schedule: measuring, choosing, the file of a plan."""
