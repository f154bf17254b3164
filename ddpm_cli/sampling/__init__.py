"""Drawing samples: requests, generators of all families, the sample folder and animations."""
