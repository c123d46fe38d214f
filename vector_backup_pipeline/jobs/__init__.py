"""How the steps of a run are composed, and the flat config each job takes."""
