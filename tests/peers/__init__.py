"""The behaviours that the suites of torch's, JAX's and equinox's loops ask for, asked of ours by tests of our own."""
