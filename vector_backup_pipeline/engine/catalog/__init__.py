"""The existing backup sets, the choice of one, and markers of their readers."""
