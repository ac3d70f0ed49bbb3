"""Executes a schedule: the autograd node, the execution, cores, gradients, inputs and outputs, the meter."""
