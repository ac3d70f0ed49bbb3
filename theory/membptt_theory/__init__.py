"""What is true: exact checkpoint policies for backpropagation through time, their schedules and their costs."""
