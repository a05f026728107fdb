"""How much error a policy bears: what is touched moved against what is seen, and robots unlike those simulated."""
