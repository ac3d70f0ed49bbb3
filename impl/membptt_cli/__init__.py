"""The command line: ``membptt plan | measure | schedule | table | prove``. It prints what others compute."""
