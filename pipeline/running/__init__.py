"""Running builds: plans, the list of stages, their results, processes and what they leave behind."""
