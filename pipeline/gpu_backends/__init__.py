"""Networks and GPU libraries: the packages they need, and running them here or in another interpreter."""
