"""What convinces: referees of the theory that share no code with it."""
