"""Actors that act in simulations of their own, in other processes and on other machines, beside one learner."""
