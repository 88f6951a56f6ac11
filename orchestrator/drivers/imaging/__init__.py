"""Taking disk files in and giving them out: opening, unpacking, converting, hashing."""
