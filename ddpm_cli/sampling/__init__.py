"""Everything that draws: from a request to samples, their folder and animations."""
