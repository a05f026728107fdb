"""Networks and GPU libraries: what they need, and running them here or in an interpreter of their own."""
