"""README, docs and the notebook: their commands exist, their examples run, their links lead somewhere."""
