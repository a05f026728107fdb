"""The bundle that comes along, and robots' runs in it: something to look at before anything is built or compiled."""
