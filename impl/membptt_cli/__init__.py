"""The command line: ``membptt plan | schedule | table | prove``. It prints what the other packages compute."""
